/*
 * KafkaJS as two commands, speaking JSON:
 *   node client.js produce BOOTSTRAP TOPIC CODEC   standard input: [{key, value}, ...] in base64, in order
 *   node client.js consume BOOTSTRAP TOPIC GROUP COUNT
 *     standard output: [[partition, offset, key, value], ...] in base64, as they arrived, ends after COUNT messages
 * Packages are resolved in the directory named by CHRONIK_KAFKAJS.
 */
'use strict'

const { createRequire } = require('node:module')
const { readFileSync, writeSync } = require('node:fs')
const path = require('node:path')

const fetchPackage = createRequire(path.join(process.env.CHRONIK_KAFKAJS, 'package.json'))
const kafkajs = fetchPackage('kafkajs')
const zstd = fetchPackage('@bokuweb/zstd-wasm')
const lz4 = fetchPackage('lz4js')
const xxh32 = fetchPackage('lz4js/xxh32.js')

const { Kafka, logLevel, CompressionTypes, CompressionCodecs, Partitioners } = kafkajs

// lz4js leaves the flag of independent blocks out, which Kafka requires; up to 4 MB it writes one block, so it is true.
function independentBlocks (frame) {
  frame[4] |= 0x20
  frame[6] = (xxh32.hash(0, frame, 4, 2) >> 8) & 0xff
  return frame
}

CompressionCodecs[CompressionTypes.Snappy] = fetchPackage('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => independentBlocks(Buffer.from(lz4.compress(encoder.buffer))),
  decompress: async buffer => Buffer.from(lz4.decompress(buffer)),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})

const TYPES = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

async function produce (kafka, topic, codec) {
  const messages = JSON.parse(readFileSync(0, 'utf8')).map(({ key, value }) => ({
    key: key === null ? null : Buffer.from(key, 'base64'),
    value: Buffer.from(value, 'base64'),
  }))
  const producer = kafka.producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    idempotent: true,
    maxInFlightRequests: 1,
  })
  await producer.connect()
  for (let start = 0; start < messages.length; start += 500) {
    await producer.send({ topic, acks: -1, compression: TYPES[codec], messages: messages.slice(start, start + 500) })
  }
  await producer.disconnect()
}

async function consume (kafka, topic, groupId, count) {
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 200 })
  const found = []
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, event => reject(event.payload.error))
    consumer.run({
      eachMessage: async ({ partition, message }) => {
        const key = message.key === null ? null : message.key.toString('base64')
        found.push([partition, Number(message.offset), key, message.value.toString('base64')])
        if (found.length >= count) resolve()
      },
    }).catch(reject)
  })
  await consumer.disconnect()
  writeSync(1, JSON.stringify(found))
}

async function main () {
  const [verb, bootstrap, topic, ...rest] = process.argv.slice(2)
  await zstd.init()
  const kafka = new Kafka({ clientId: 'chronik-compat', brokers: [bootstrap], logLevel: logLevel.ERROR })
  if (verb === 'produce') return produce(kafka, topic, rest[0])
  if (verb === 'consume') return consume(kafka, topic, rest[0], Number(rest[1]))
  throw new Error(`unknown verb ${verb}`)
}

main().then(() => process.exit(0), error => {
  console.error(error)
  process.exit(1)
})
