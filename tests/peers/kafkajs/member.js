/*
 * KafkaJS as a member of a consumer group: node member.js BOOTSTRAP GROUP TOPIC
 * Consumes and commits until SIGTERM, on which it leaves. Prints one JSON object a line: {"owned": [...]}, the partitions that
 * are its own now, and {"took": [[partition, offset], ...]}, messages consumed, said before
 * they are committed.
 * Packages are resolved in the directory named by CHRONIK_KAFKAJS.
 */
'use strict'

const { createRequire } = require('node:module')
const { writeSync } = require('node:fs')
const path = require('node:path')

const { Kafka, logLevel } = createRequire(path.join(process.env.CHRONIK_KAFKAJS, 'package.json'))('kafkajs')

const say = what => writeSync(1, JSON.stringify(what) + '\n')

async function main () {
  const [bootstrap, groupId, topic] = process.argv.slice(2)
  const kafka = new Kafka({ clientId: 'chronik-compat', brokers: [bootstrap], logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, maxWaitTimeInMs: 200 })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => say({ owned: payload.memberAssignment[topic] || [] }))
  consumer.on(consumer.events.REBALANCING, () => say({ owned: [] }))
  process.on('SIGTERM', () => consumer.disconnect().then(() => process.exit(0)))
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      const last = batch.messages[batch.messages.length - 1]
      const next = (BigInt(last.offset) + 1n).toString()
      say({ took: batch.messages.map(message => [batch.partition, Number(message.offset)]) })
      await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next }])
    },
  })
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
