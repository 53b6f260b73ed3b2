import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java client as two commands, bytes in hexadecimal so that any value passes through lines:
 * produce BOOTSTRAP TOPIC CODEC reads "KEY VALUE" lines ("-" is no key); consume BOOTSTRAP TOPIC GROUP COUNT writes
 * "PARTITION OFFSET KEY VALUE" lines as the records come.
 */
public final class Pipe {
    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[1]);
        if (arguments[0].equals("produce")) produce(settings, arguments[2], arguments[3]);
        else consume(settings, arguments[2], arguments[3], Integer.parseInt(arguments[4]));
    }

    private static void produce(Properties settings, String topic, String codec) throws Exception {
        settings.put("compression.type", codec);
        settings.put("linger.ms", "20");
        var bytes = new ByteArraySerializer();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<byte[], byte[]>(settings, bytes, bytes);
             var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                int space = line.indexOf(' ');
                String key = line.substring(0, space);
                byte[] value = HEX.parseHex(line.substring(space + 1));
                sent.add(producer.send(new ProducerRecord<>(topic, key.equals("-") ? null : HEX.parseHex(key), value)));
            }
            producer.flush();
            for (Future<RecordMetadata> future : sent) future.get();
        }
    }

    private static void consume(Properties settings, String topic, String group, int count) {
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        var bytes = new ByteArrayDeserializer();
        long giveUp = System.nanoTime() + 60_000_000_000L;
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings, bytes, bytes);
             var out = new PrintStream(new BufferedOutputStream(System.out, 1 << 16), false)) {
            consumer.subscribe(List.of(topic));
            for (int seen = 0; seen < count && System.nanoTime() < giveUp;) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    String key = record.key() == null ? "-" : HEX.formatHex(record.key());
                    out.println(record.partition() + " " + record.offset() + " " + key + " " + HEX.formatHex(record.value()));
                    seen++;
                }
            }
            consumer.commitSync();
        }
    }
}
