import java.lang.reflect.Field;
import sun.misc.Unsafe;

/** Crashes the virtual machine: by a write to nowhere, or because no memory is left. */
public class Crash {
    static void write(Unsafe unsafe) {
        unsafe.putAddress(8, 1);
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("memory")) {
            byte[][] kept = new byte[1 << 20][];
            for (int i = 0; ; i++) {
                kept[i] = new byte[1 << 20];
            }
        }
        Field field = Unsafe.class.getDeclaredField("theUnsafe");
        field.setAccessible(true);
        write((Unsafe) field.get(null));
    }
}
