import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileChannel.MapMode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;

/**
 * A JVM with mapped files in all modes, some heap in use and some threads.
 *
 * java Mapped FOLDER: makes its files in FOLDER, says "ready PID", answers every line of standard input with a sum
 * over its maps, and ends with the input.
 */
public class Mapped {
    static final int LENGTH = 3 << 20;

    static FileChannel open(Path path, StandardOpenOption... options) throws Exception {
        return FileChannel.open(path, options);
    }

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        byte[] bytes = new byte[LENGTH];
        java.util.Arrays.fill(bytes, (byte) 7);
        Path read = Files.write(folder.resolve("read"), bytes);
        Path both = Files.write(folder.resolve("both"), bytes);
        Path own = Files.write(folder.resolve("own"), bytes);

        List<MappedByteBuffer> maps = new ArrayList<>();
        try (FileChannel channel = open(read, StandardOpenOption.READ)) {
            maps.add(channel.map(MapMode.READ_ONLY, 0, LENGTH));
        }
        try (FileChannel channel = open(both, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            maps.add(channel.map(MapMode.READ_WRITE, 0, LENGTH));
        }
        try (FileChannel channel = open(own, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            MappedByteBuffer map = channel.map(MapMode.PRIVATE, 0, LENGTH);
            map.put(0, (byte) 9);
            maps.add(map);
        }
        ByteBuffer direct = ByteBuffer.allocateDirect(LENGTH);
        direct.put(0, (byte) 1);
        List<byte[]> heap = new ArrayList<>();
        for (int n = 0; n < 64; n++)
            heap.add(new byte[100_000]);
        for (int n = 0; n < 4; n++) {
            Thread thread = new Thread(() -> {
                try {
                    Thread.sleep(Long.MAX_VALUE);
                } catch (InterruptedException e) {
                    return;
                }
            });
            thread.setDaemon(true);
            thread.start();
        }

        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ready " + ProcessHandle.current().pid());
        while (input.readLine() != null) {
            long sum = direct.get(0) + heap.size();
            for (MappedByteBuffer map : maps)
                for (int at = 0; at < LENGTH; at++)
                    sum += map.get(at);
            System.out.println(sum);
        }
    }
}
