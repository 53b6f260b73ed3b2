// Writes the bytes that Apache Kafka's own Java client makes, one "name hex" a line; golden.txt is its output for 4.1.
//
//     java -cp 'kafka-clients-4.1.1.jar:...' GoldenBytes.java > golden.txt
//
// With the argument "read" it reads such lines from standard input instead, as batches, and prints each record: the way to
// have Java judge batches that were encoded elsewhere.

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Scanner;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.requests.ResponseHeader;

public class GoldenBytes {
    static void print(String name, ByteBuffer... parts) {
        StringBuilder line = new StringBuilder(name).append(' ');
        for (ByteBuffer part : parts) {
            byte[] bytes = new byte[part.remaining()];
            part.duplicate().get(bytes);
            line.append(HexFormat.of().formatHex(bytes));
        }
        System.out.println(line);
    }

    static SimpleRecord[] records() {
        byte[] text = "value ".repeat(40).getBytes(StandardCharsets.UTF_8);
        Header[] headers = {new RecordHeader("trace", new byte[] {1, 2}), new RecordHeader("größe", null)};
        return new SimpleRecord[] {
            new SimpleRecord(1700000000000L, "key-0".getBytes(StandardCharsets.UTF_8), text),
            new SimpleRecord(1700000000005L, null, text, headers),
            new SimpleRecord(1699999999999L, "key-2".getBytes(StandardCharsets.UTF_8), null),
        };
    }

    static void request(ApiKeys key, short version, String clientId, ApiMessage body) {
        RequestHeader header = new RequestHeader(key, version, clientId, 77);
        print("request:" + key.id + ":" + version,
            MessageUtil.toByteBufferAccessor(header.data(), header.headerVersion()).buffer(),
            MessageUtil.toByteBufferAccessor(body, version).buffer());
    }

    static void response(ApiKeys key, short version, ApiMessage body) {
        ResponseHeader header = new ResponseHeader(77, key.responseHeaderVersion(version));
        print("response:" + key.id + ":" + version,
            MessageUtil.toByteBufferAccessor(header.data(), header.headerVersion()).buffer(),
            MessageUtil.toByteBufferAccessor(body, version).buffer());
    }

    public static void main(String[] arguments) {
        if (arguments.length == 1 && arguments[0].equals("read")) {
            read();
            return;
        }
        print("batch:none", MemoryRecords.withRecords(Compression.NONE, records()).buffer());
        print("batch:gzip", MemoryRecords.withRecords(Compression.gzip().build(), records()).buffer());
        print("batch:snappy", MemoryRecords.withRecords(Compression.snappy().build(), records()).buffer());
        print("batch:lz4", MemoryRecords.withRecords(Compression.lz4().build(), records()).buffer());
        print("batch:zstd", MemoryRecords.withRecords(Compression.zstd().build(), records()).buffer());
        print("batch:idempotent", MemoryRecords.withIdempotentRecords(Compression.NONE, 4000000000L, (short) 3, 2147483646, records()).buffer());
        print("batch:transactional", MemoryRecords.withTransactionalRecords(Compression.NONE, 5L, (short) 1, 0, records()).buffer());
        print("batch:commit", MemoryRecords.withEndTransactionMarker(42L, 1700000000000L, 9, 5L, (short) 1,
            new EndTransactionMarker(ControlRecordType.COMMIT, 7)).buffer());

        for (short version : new short[] {0, 3, 4})
            request(ApiKeys.API_VERSIONS, version, "golden", new ApiVersionsRequestData()
                .setClientSoftwareName(version < 3 ? "" : "java").setClientSoftwareVersion(version < 3 ? "" : "4.1"));
        for (short version : new short[] {0, 1, 9, 12, 13})
            request(ApiKeys.METADATA, version, null, new MetadataRequestData().setTopics(List.of(
                new MetadataRequestData.MetadataRequestTopic().setName("orders"))).setAllowAutoTopicCreation(true));
        for (short version : new short[] {4, 12})
            request(ApiKeys.FETCH, version, "golden", new FetchRequestData().setReplicaId(-1).setMaxWaitMs(500).setMinBytes(1)
                .setTopics(List.of(new FetchRequestData.FetchTopic().setTopic("orders").setPartitions(List.of(
                    new FetchRequestData.FetchPartition().setPartition(1).setFetchOffset(99).setPartitionMaxBytes(1048576))))));
        for (short version : new short[] {0, 3})
            response(ApiKeys.API_VERSIONS, version, new ApiVersionsResponseData().setApiKeys(
                new ApiVersionsResponseData.ApiVersionCollection(List.of(new ApiVersionsResponseData.ApiVersion()
                    .setApiKey((short) 18).setMinVersion((short) 0).setMaxVersion((short) 4)).iterator())));
        for (short version : new short[] {8, 10})
            response(ApiKeys.PRODUCE, version, new ProduceResponseData().setResponses(
                new ProduceResponseData.TopicProduceResponseCollection(List.of(
                    new ProduceResponseData.TopicProduceResponse().setName("orders").setPartitionResponses(List.of(
                        new ProduceResponseData.PartitionProduceResponse().setIndex(1).setBaseOffset(99).setLogStartOffset(3)
                            .setErrorMessage("größe").setCurrentLeader(version < 10 ? new ProduceResponseData.LeaderIdAndEpoch()
                                : new ProduceResponseData.LeaderIdAndEpoch().setLeaderId(2).setLeaderEpoch(8))))).iterator())));
    }

    static void read() {
        Scanner lines = new Scanner(System.in);
        while (lines.hasNext()) {
            String name = lines.next();
            byte[] bytes = HexFormat.of().parseHex(lines.next());
            for (MutableRecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batches()) {
                batch.ensureValid();
                for (org.apache.kafka.common.record.Record record : batch)
                    System.out.println(name + " " + record.offset() + " " + record.timestamp() + " " + text(record.key()) + " "
                        + text(record.value()) + " " + Arrays.toString(record.headers()));
            }
        }
    }

    static String text(ByteBuffer buffer) {
        return buffer == null ? "null" : StandardCharsets.UTF_8.decode(buffer).toString();
    }
}
