// Goroutines that wait in many ways; says "ready", then waits or crashes.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

//go:noinline
func deep(depth int, text string, end func()) int {
	var room [8]int
	room[depth%8] = len(text)
	if depth > 0 {
		return deep(depth-1, text+"x", end) + room[depth%8]
	}
	end()
	return room[0]
}

func main() {
	count, _ := strconv.Atoi(os.Args[1])
	depth, _ := strconv.Atoi(os.Args[2])
	heap, _ := strconv.Atoi(os.Args[3])
	held := make([][]byte, 0)
	for i := 0; i < heap*16; i++ {
		piece := make([]byte, 64<<10)
		piece[0] = byte(i)
		held = append(held, piece)
	}
	var there sync.WaitGroup
	there.Add(count)
	var lock sync.Mutex
	lock.Lock()
	never := make(chan int)
	for i := 0; i < count; i++ {
		i := i
		go func() {
			defer fmt.Fprintln(os.Stderr, "never")
			deep(1+(depth+i)%(depth+1), "goroutine", func() {
				there.Done()
				switch i % 4 {
				case 0:
					<-never
				case 1:
					lock.Lock()
				case 2:
					time.Sleep(time.Hour)
				default:
					select {
					case never <- i:
					case <-time.After(time.Hour):
					}
				}
			})
		}()
	}
	there.Wait()
	time.Sleep(300 * time.Millisecond)
	fmt.Println("ready")
	switch os.Args[4] {
	case "segv":
		var nothing *int
		deep(depth, "crash", func() { *nothing = len(held) })
	case "panic":
		deep(depth, "crash", func() { panic(fmt.Sprint(len(held))) })
	default:
		deep(depth, "main", func() { time.Sleep(time.Hour) })
	}
}
