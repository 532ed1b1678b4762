// Goroutines, a heap, and a file that is mapped for reading, for writing, and privately.
//
//	mapped FILE
//
// Says "ready PID", answers every line of standard input with a sum, and ends with the input.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"syscall"
)

const size = 1 << 20

func mapFile(file *os.File, protection, flags int) []byte {
	view, err := syscall.Mmap(int(file.Fd()), 0, size, protection, flags)
	if err != nil {
		panic(err)
	}
	return view
}

func main() {
	if err := os.WriteFile(os.Args[1], bytes.Repeat([]byte{1}, size), 0o600); err != nil {
		panic(err)
	}
	file, err := os.OpenFile(os.Args[1], os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	views := [][]byte{
		mapFile(file, syscall.PROT_READ, syscall.MAP_SHARED),
		mapFile(file, syscall.PROT_READ, syscall.MAP_PRIVATE),
		mapFile(file, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED),
		mapFile(file, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE),
	}
	views[2][0], views[3][4096] = 2, 3
	for n := 0; n < 100; n++ {
		go func() { select {} }()
	}
	numbers := make([]uint64, 1<<18)
	for n := range numbers {
		numbers[n] = uint64(n)
	}
	fmt.Println("ready", os.Getpid())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		sum := uint64(0)
		for _, number := range numbers {
			sum += number
		}
		for _, view := range views {
			sum += uint64(view[0]) + uint64(view[4096])
		}
		fmt.Println(sum)
	}
}
