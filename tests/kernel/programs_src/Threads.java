import java.util.concurrent.CountDownLatch;

/** Threads that wait deep in compiled and interpreted code; says "ready" once all of them are there. */
public class Threads {
    static final CountDownLatch THERE = new CountDownLatch(20);
    static volatile long sum;

    static int deep(int depth) throws InterruptedException {
        if (depth > 0) {
            return deep(depth - 1) + 1;
        }
        THERE.countDown();
        Thread.sleep(3_600_000);
        return 0;
    }

    static int warm(int depth) {
        return depth > 0 ? warm(depth - 1) + depth : (int) sum;
    }

    public static void main(String[] args) throws Exception {
        for (int i = 0; i < 20_000; i++) {
            sum += warm(i % 40);
        }
        for (int i = 0; i < 20; i++) {
            int depth = 10 + i;
            Thread thread = new Thread(() -> {
                try {
                    deep(depth);
                } catch (InterruptedException leaving) {
                    sum++;
                }
            });
            thread.setDaemon(true);
            thread.start();
        }
        THERE.await();
        System.out.println("ready");
        for (;;) {
            sum += warm(30);
        }
    }
}
