import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A member of a share group: BOOTSTRAP TOPIC GROUP RULE, until it is terminated. For each record it writes
 * "G NANOSECONDS PARTITION OFFSET DELIVERY VALUE" when it is given, and "A", "R" or "J" in place of the "G" once it has been
 * accepted, released or rejected and the broker has said so; "?" where the broker has not said so. By RULE "mixed", values
 * that end in 7 are released the first time and those that end in 3 rejected; by "accept", all are accepted; by "hold" it
 * keeps what it gets first, and says nothing of it.
 */
public final class Sharer {
    private static volatile boolean stopping = false;

    public static void main(String[] arguments) throws Exception {
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopping = true;
            try {
                main.join(15_000);
            } catch (InterruptedException nothing) {
                Thread.currentThread().interrupt();
            }
        }));
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("group.id", arguments[2]);
        settings.put("share.acknowledgement.mode", "explicit");
        settings.put("max.poll.records", "50");
        settings.put("reconnect.backoff.max.ms", "200");
        String rule = arguments[3];
        var text = new StringDeserializer();
        try (var consumer = new KafkaShareConsumer<>(settings, text, text)) {
            consumer.subscribe(List.of(arguments[1]));
            while (!stopping) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                for (ConsumerRecord<String, String> record : records) write("G", record);
                if (rule.equals("hold") && !records.isEmpty()) while (!stopping) Thread.sleep(50);
                else if (!records.isEmpty()) say(consumer, records, rule);
            }
        }
    }

    private static void say(
        KafkaShareConsumer<String, String> consumer, ConsumerRecords<String, String> records, String rule
    ) {
        for (ConsumerRecord<String, String> record : records) consumer.acknowledge(record, type(rule, record));
        Map<TopicIdPartition, Optional<KafkaException>> results = Map.of();
        try {
            results = consumer.commitSync(Duration.ofSeconds(30));
        } catch (KafkaException problem) {
            System.err.println("commit: " + problem);
        }
        Map<Integer, Boolean> good = new HashMap<>();
        results.forEach((place, problem) -> {
            good.put(place.partition(), problem.isEmpty());
            problem.ifPresent(each -> System.err.println("commit of " + place + ": " + each));
        });
        for (ConsumerRecord<String, String> record : records) {
            AcknowledgeType type = type(rule, record);
            String letter = type == AcknowledgeType.ACCEPT ? "A" : type == AcknowledgeType.RELEASE ? "R" : "J";
            write(good.getOrDefault(record.partition(), false) ? letter : "?", record);
        }
    }

    private static AcknowledgeType type(String rule, ConsumerRecord<String, String> record) {
        if (rule.equals("accept")) return AcknowledgeType.ACCEPT;
        if (record.value().endsWith("3")) return AcknowledgeType.REJECT;
        boolean again = record.deliveryCount().orElse((short) 1) > 1;
        return record.value().endsWith("7") && !again ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT;
    }

    private static void write(String what, ConsumerRecord<String, String> record) {
        System.out.println(what + " " + System.nanoTime() + " " + record.partition() + " " + record.offset() + " "
            + record.deliveryCount().orElse((short) 0) + " " + record.value());
    }
}
