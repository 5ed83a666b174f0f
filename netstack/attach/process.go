// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
)

const (
	// threads is how many threads run Go code at once (GOMAXPROCS). Traffic is
	// carried by one loop; gVisor's goroutines that it hands segments to run
	// between its turns on the same processor, without a wake-up of another
	// thread for each.
	threads = 1
	// gcPercent is the garbage collector's target (GOGC).
	gcPercent = 100
)

// Tune fits the limits of the process to one session: call it once, at the start of a
// program that does nothing else. The limit of open files is raised as far as the kernel
// lets us, since each flow has one. gVisor's own log is silenced: a container could fill
// ours with it.
func Tune() error {
	log.SetTarget(&log.Writer{Next: io.Discard})
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	lim.Cur = lim.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("raise limit of open files to %d: %w", lim.Max, err)
	}
	return nil
}

// Settle fits the Go runtime to carrying one session: call it once that is ready. To
// change the number of threads gives back what each of them holds of the heap, which
// takes half a millisecond, and a start has uses for them.
func Settle() {
	runtime.GOMAXPROCS(threads)
	debug.SetGCPercent(gcPercent)
}
