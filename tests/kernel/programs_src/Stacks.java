import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

/** Threads that wait in many ways, deep in interpreted and compiled code, over a heap of some MiB; ends as it is told. */
public class Stacks {
    static CountDownLatch there;
    static volatile long sum;
    static final List<Object> HELD = new ArrayList<>();

    interface Work {
        void run() throws Exception;
    }

    static void deep(int depth, Work end) throws Exception {
        if (depth > 0) {
            Work next = depth % 2 == 0 ? () -> deep(depth - 1, end) : end;
            if (depth % 2 == 0) {
                next.run();
            } else {
                deep(depth - 1, end);
            }
            sum += depth;
            return;
        }
        there.countDown();
        end.run();
    }

    static int warm(int depth) {
        return depth > 0 ? warm(depth - 1) + depth : (int) sum;
    }

    static void spin(int depth) throws Exception {
        there.countDown();
        for (;;) {
            sum += warm(depth);
        }
    }

    static void waitIn(Object lock) throws Exception {
        synchronized (lock) {
            lock.wait();
        }
    }

    static void enter(Object lock) throws Exception {
        synchronized (lock) {
            Thread.sleep(3_600_000);
        }
    }

    static Thread start(String name, Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (Throwable leaving) {
                sum++;
            }
        }, name);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    static void deadlock() throws Exception {
        Object a = new Object(), b = new Object();
        CountDownLatch both = new CountDownLatch(2);
        for (int i = 0; i < 2; i++) {
            Object first = i == 0 ? a : b, second = i == 0 ? b : a;
            start("locked-" + i, () -> {
                synchronized (first) {
                    both.countDown();
                    both.await();
                    enter(second);
                }
            });
        }
        Thread.sleep(300);
    }

    public static void main(String[] args) throws Exception {
        int threads = Integer.parseInt(args[0]), depth = Integer.parseInt(args[1]), heap = Integer.parseInt(args[2]);
        String how = args[3];
        for (int i = 0; i < heap; i++) {
            byte[][] pieces = new byte[64][];
            for (int n = 0; n < 64; n++) {
                pieces[n] = new byte[16 * 1024 - 32];
                pieces[n][0] = (byte) n;
            }
            HELD.add(pieces);
        }
        for (int i = 0; i < 20_000; i++) {
            sum += warm(i % 40);
        }
        there = new CountDownLatch(threads);
        ReentrantLock lock = new ReentrantLock();
        lock.lock();
        Object monitor = new Object();
        for (int i = 0; i < threads; i++) {
            int levels = 1 + (depth + i) % (depth + 1);
            switch (i % 6) {
                case 0 -> start("sleeper-" + i, () -> deep(levels, () -> Thread.sleep(3_600_000)));
                case 1 -> start("parked-" + i, () -> deep(levels, () -> LockSupport.park(monitor)));
                case 2 -> start("waiter-" + i, () -> deep(levels, () -> waitIn(new Object())));
                case 3 -> start("locker-\u00fc\u4e2d-" + i, () -> deep(levels, lock::lock));
                case 4 -> start("enterer-" + i, () -> deep(levels, () -> enter(monitor)));
                default -> start("spinner-" + i, () -> spin(levels));
            }
            if (i % 6 == 5 && i > 12) {
                start("short-" + i, () -> sum++);
            }
        }
        there.await();
        Thread.sleep(500);
        switch (how) {
            case "segv" -> {
                Field field = Class.forName("sun.misc.Unsafe").getDeclaredField("theUnsafe");
                field.setAccessible(true);
                ((sun.misc.Unsafe) field.get(null)).putAddress(16, 1);
            }
            case "oom" -> {
                for (;;) {
                    HELD.add(new long[1 << 20]);
                }
            }
            case "deadlock" -> deadlock();
            default -> sum++;
        }
        System.out.println("ready");
        deep(depth, () -> Thread.sleep(3_600_000));
    }
}
