// SPDX-License-Identifier: Apache-2.0

package resources

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Usage is what a container uses.
type Usage struct {
	// CPU is the processor time that its processes have used so far. That of
	// processes that have ended counts if their parent waited for them.
	CPU time.Duration `json:"cpu_ns"`
	// Memory is in bytes. A page that several processes share counts in part for
	// each.
	Memory    int64 `json:"memory_bytes"`
	Processes int   `json:"processes"`
	// Received and Sent are bytes that passed the container's interfaces; zero for
	// one that has the host's network.
	Received int64 `json:"received_bytes"`
	Sent     int64 `json:"sent_bytes"`
}

// tick is the unit of processor times in /proc (USER_HZ, which is 100 on all that Linux
// runs on but alpha).
const tick = time.Second / 100

// Of looks at containers, each given by the id of its first process, and returns
// what they use in the same order; nil for one that has ended.
func Of(inits []int) ([]*Usage, error) {
	all := make([]*Usage, len(inits))
	at := map[uint64]*Usage{} // by pid namespace
	for i, pid := range inits {
		if ns := pidNamespace(strconv.Itoa(pid)); ns != 0 {
			all[i] = &Usage{}
			at[ns] = all[i]
			all[i].traffic(pid)
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		if c := e.Name()[0]; c < '0' || c > '9' {
			continue
		}
		if u := at[pidNamespace(e.Name())]; u != nil {
			u.add(e.Name())
		}
	}
	return all, nil
}

// pidNamespace returns the number of a process's pid namespace; 0 is that it cannot
// be told, since the process has ended or is another user's.
func pidNamespace(pid string) uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/"+pid+"/ns/pid", &st) != nil {
		return 0
	}
	return st.Ino
}

// add counts a process.
func (u *Usage) add(pid string) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return
	}
	cpu, rss, ok := parseStat(stat)
	if !ok {
		return
	}
	u.Processes++
	u.CPU += cpu
	if b, err := os.ReadFile("/proc/" + pid + "/smaps_rollup"); err == nil {
		if pss, ok := parsePss(b); ok {
			u.Memory += pss
			return
		}
	}
	u.Memory += rss // of one that we may not look at closer
}

// Fields of /proc/PID/stat, counted from the one behind the command's name.
const (
	fieldUserTime = 14 - 3 // followed by system time, and both of children
	fieldRSS      = 24 - 3
)

// parseStat reads processor time and resident memory in bytes.
func parseStat(b []byte) (cpu time.Duration, rss int64, ok bool) {
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) <= fieldRSS {
		return 0, 0, false
	}
	for _, t := range f[fieldUserTime : fieldUserTime+4] {
		n, err := strconv.ParseInt(string(t), 10, 64)
		if err != nil || n < 0 {
			return 0, 0, false
		}
		cpu += time.Duration(n) * tick
	}
	pages, err := strconv.ParseInt(string(f[fieldRSS]), 10, 64)
	return cpu, pages * int64(os.Getpagesize()), err == nil
}

// parsePss reads the proportional set size of smaps_rollup.
func parsePss(b []byte) (int64, bool) {
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err == nil
		}
	}
	return 0, false
}

// traffic reads what passed the interfaces of a process's network.
func (u *Usage) traffic(pid int) {
	var mine, its unix.Stat_t
	dir := fmt.Sprintf("/proc/%d/", pid)
	if unix.Stat("/proc/self/ns/net", &mine) != nil || unix.Stat(dir+"ns/net", &its) != nil || mine.Ino == its.Ino {
		return
	}
	if b, err := os.ReadFile(dir + "net/dev"); err == nil {
		u.Received, u.Sent = parseDev(b)
	}
}

// Columns of /proc/net/dev behind the interface's name.
const (
	columnReceived = 0
	columnSent     = 8
)

// parseDev adds up bytes received and sent, but for lo.
func parseDev(b []byte) (received, sent int64) {
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(f) <= columnSent {
			continue
		}
		r, err1 := strconv.ParseInt(f[columnReceived], 10, 64)
		s, err2 := strconv.ParseInt(f[columnSent], 10, 64)
		if err1 == nil && err2 == nil {
			received, sent = received+r, sent+s
		}
	}
	return received, sent
}
