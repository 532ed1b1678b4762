// Arrays, a thread, and a file that is mapped for reading and for writing.
//
//     mono mapped.exe FILE
//
// Says "ready PID", answers every line of standard input with a sum, and ends with the input.
using System;
using System.Diagnostics;
using System.IO;
using System.IO.MemoryMappedFiles;
using System.Linq;
using System.Threading;

static class Mapped
{
    const int Bytes = 1 << 20;

    static int Main(string[] arguments)
    {
        File.WriteAllBytes(arguments[0], Enumerable.Repeat((byte)1, Bytes).ToArray());
        var numbers = Enumerable.Range(0, 100000).Select(n => (double)n).ToArray();
        var waiting = new Thread(() => Thread.Sleep(Timeout.Infinite)) { IsBackground = true };
        waiting.Start();
        using (var file = MemoryMappedFile.CreateFromFile(arguments[0], FileMode.Open))
        using (var view = file.CreateViewAccessor(0, Bytes, MemoryMappedFileAccess.ReadWrite))
        using (var copy = file.CreateViewAccessor(0, Bytes, MemoryMappedFileAccess.CopyOnWrite))
        {
            view.Write(0, (byte)2);
            copy.Write(4096, (byte)3);
            Console.WriteLine("ready " + Process.GetCurrentProcess().Id);
            while (Console.ReadLine() != null)
                Console.WriteLine(numbers.Sum() + view.ReadByte(0) + copy.ReadByte(4096));
        }
        return 0;
    }
}
