import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;

/**
 * One instance of a Streams application with processing.guarantee=exactly_once_v2: a word count and a windowed join of two streams.
 * Arguments: BOOTSTRAP APPLICATION STATE_DIRECTORY WINDOW_MS. Topics: APPLICATION-lines to APPLICATION-counts, and APPLICATION-left with
 * APPLICATION-right to APPLICATION-joined. Every count goes out (no cache), so that one lost or counted twice shows. It
 * prints its state at each change, and runs until it is killed or SIGTERM asks it to close.
 */
public final class ExactlyOnceStreams {
    private static final Duration GRACE = Duration.ofDays(1);

    public static void main(String[] arguments) throws Exception {
        String application = arguments[1];
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[2]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 200);
        // A killed instance must be missed, and its open transaction be ended, well before the next one is killed.
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 6000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), 500);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG), 5000);

        KafkaStreams streams = new KafkaStreams(topology(application, Long.parseLong(arguments[3])), settings);
        CountDownLatch closed = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(problem -> {
            problem.printStackTrace();
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.setStateListener((now, before) -> System.out.println(now));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(Duration.ofSeconds(20));
            closed.countDown();
        }));
        streams.start();
        closed.await();
    }

    private static org.apache.kafka.streams.Topology topology(String application, long window) {
        var text = Serdes.String();
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(application + "-lines", Consumed.with(text, text))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with(text, text))
            .count(Materialized.with(text, Serdes.Long()))
            .toStream()
            .mapValues(count -> Long.toString(count))
            .to(application + "-counts", Produced.with(text, text));

        KStream<String, String> left = builder.stream(application + "-left", Consumed.with(text, text));
        KStream<String, String> right = builder.stream(application + "-right", Consumed.with(text, text));
        left.join(
                right,
                (one, other) -> one + " " + other,
                JoinWindows.ofTimeDifferenceAndGrace(Duration.ofMillis(window), GRACE),
                StreamJoined.with(text, text, text))
            .to(application + "-joined", Produced.with(text, text));
        return builder.build();
    }
}
