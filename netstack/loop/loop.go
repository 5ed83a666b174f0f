// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Events is a set of epoll events, as epoll_ctl(2) names them.
type Events uint32

// Events that handlers ask for and are told of. Error and HangUp are always
// reported.
const (
	Readable Events = unix.EPOLLIN
	Writable Events = unix.EPOLLOUT
	// ReadHangUp: the peer shut down its sending side.
	ReadHangUp Events = unix.EPOLLRDHUP
	HangUp     Events = unix.EPOLLHUP
	// Urgent: there is TCP's urgent data, at which reads stop short.
	Urgent Events = unix.EPOLLPRI
	Error  Events = unix.EPOLLERR
	// Edge makes the registration edge-triggered: an event is reported once, when
	// it comes about.
	Edge Events = unix.EPOLLET
)

// A Handler is told of a descriptor's events. Ready is called on the loop and
// must not block.
type Handler interface {
	Ready(Events)
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(Events)

// Ready calls f.
func (f HandlerFunc) Ready(ev Events) { f(ev) }

// A Token stands for one registration. The zero Token stands for none.
type Token uint64

// Bounds of the time that the loop polls before it parks. To wake a parked thread
// takes an interrupt of another processor, on a virtual machine 10 µs and more:
// request and answer would pay that at every hop. Polling is what saves it, and
// it ends as soon as waits are longer than it.
const (
	minPolling = 10 * time.Microsecond
	maxPolling = 100 * time.Microsecond
)

// batch is how many events one epoll_wait(2) fetches at most.
const batch = 128

// A Loop waits for events of many descriptors and calls their handlers. Make one
// with New; Run it on one goroutine; Close it when Run has returned.
type Loop struct {
	epoll *os.File        // owns epfd
	raw   syscall.RawConn // of epoll: parks in the runtime's poller
	epfd  int
	wake  int // eventfd

	// Owned by the loop.
	slots      []slot
	free       []uint32
	parked     []Token // by descriptor: registrations that Park has put aside
	turn       uint64
	atStart    func()
	atEnd      func()
	beforePark func()
	deferred   []func()
	spare      []func() // the array that deferred had in the turn before
	events     [batch]unix.EpollEvent
	busy       bool          // this turn did not have to be waited for
	polling    time.Duration // how long to poll before parking
	alone      bool          // there is one processor, which others need

	asleep atomic.Bool // the loop is parked, or about to be
	mu     sync.Mutex  // guards posted and closed
	posted []func()
	closed bool
}

// slot is one registration; its generation tells it from earlier users.
type slot struct {
	handler    Handler
	generation uint32
	since      uint64 // the turn that it was taken up again in
}

// wakeToken is the token of the loop's own eventfd: slot 0, which is never
// handed out.
const wakeToken Token = 0

// New makes a loop. It starts nothing.
func New() (*Loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	// The runtime's poller takes only non-blocking descriptors.
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("set epoll instance non-blocking: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	l := &Loop{
		epoll: os.NewFile(uintptr(epfd), "epoll"), epfd: epfd,
		wake: wake, slots: make([]slot, 1), alone: runtime.NumCPU() == 1,
	}
	if l.raw, err = l.epoll.SyscallConn(); err != nil {
		l.Close()
		return nil, fmt.Errorf("register epoll instance: %w", err)
	}
	if err := l.ctl(unix.EPOLL_CTL_ADD, wake, Readable|Edge, wakeToken); err != nil {
		l.Close()
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	return l, nil
}

// Run turns the loop until ctx is done, and then returns nil. It returns an
// error only where the kernel refuses to wait.
func (l *Loop) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, l.Wake)
	defer stop()
	for ctx.Err() == nil {
		n, err := l.wait(ctx)
		if err != nil {
			return fmt.Errorf("wait for events: %w", err)
		}
		l.turn++
		if l.atStart != nil {
			l.atStart()
		}
		l.dispatch(n)
		if n > 0 {
			// What the handlers gave to other goroutines is done before the
			// results are collected, without waking another thread.
			runtime.Gosched()
		}
		l.runTasks()
		if l.atEnd != nil {
			l.atEnd()
		}
	}
	return nil
}

// Close gives the loop's descriptors back. It must not be called while Run
// runs; descriptors that were added stay open and are their owners' to close.
// Post and Wake after Close do nothing. Close may be called again.
func (l *Loop) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.posted = nil
	return errors.Join(l.epoll.Close(), unix.Close(l.wake))
}

// Add registers fd, which stays its owner's, for the events and returns the
// registration's token.
func (l *Loop) Add(fd int, ev Events, h Handler) (Token, error) {
	if t := l.unpark(fd); t != 0 {
		l.Forget(t) // of one that was closed, which had the number
	}
	var i uint32
	if n := len(l.free); n > 0 {
		i = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		i = uint32(len(l.slots))
		l.slots = append(l.slots, slot{})
	}
	l.slots[i].generation++
	t := Token(l.slots[i].generation)<<32 | Token(i)
	if err := l.ctl(unix.EPOLL_CTL_ADD, fd, ev, t); err != nil {
		l.free = append(l.free, i)
		return 0, fmt.Errorf("watch descriptor %d: %w", fd, err)
	}
	l.slots[i].handler = h
	return t, nil
}

// Park puts the registration t of fd aside until Again. The descriptor may be closed
// meanwhile.
func (l *Loop) Park(fd int, t Token) {
	if !l.has(t) {
		return
	}
	l.slots[uint32(t)].handler = nil
	if fd >= len(l.parked) {
		l.parked = append(l.parked, make([]Token, fd+1-len(l.parked))...)
	}
	l.parked[fd] = t
}

// Again takes up again the registration of fd that Park has put aside, for the events
// that it was for, and returns its token, or the zero Token where there is none. That
// costs no system call: h is told of what comes about from now on, where Add would tell
// of what there is already, and of nothing that was fetched in the turn before.
func (l *Loop) Again(fd int, h Handler) Token {
	t := l.unpark(fd)
	if t != 0 {
		s := &l.slots[uint32(t)]
		s.handler, s.since = h, l.turn
	}
	return t
}

// unpark returns the token of the registration of fd that is parked, from now on not.
func (l *Loop) unpark(fd int) Token {
	if fd < 0 || fd >= len(l.parked) {
		return 0
	}
	t := l.parked[fd]
	l.parked[fd] = 0
	return t
}

// Remove ends the registration t of fd; call it before fd is closed, or where fd
// stays open. A zero token is ignored.
func (l *Loop) Remove(fd int, t Token) {
	if l.Forget(t) {
		// An error here means that fd is closed already, which ended the
		// registration as well (epoll(7), question 6).
		_ = l.ctl(unix.EPOLL_CTL_DEL, fd, 0, 0)
	}
}

// Forget ends the registration t of a descriptor that is closed right after and has
// no duplicate, which makes the kernel forget it too (epoll(7), question 6). It reports
// whether t stood for one.
func (l *Loop) Forget(t Token) bool {
	if !l.has(t) {
		return false
	}
	i := uint32(t)
	l.slots[i].handler = nil
	l.slots[i].generation++
	l.free = append(l.free, i)
	return true
}

// has reports whether t stands for a registration.
func (l *Loop) has(t Token) bool {
	i := uint32(t)
	return t != 0 && int(i) < len(l.slots) && l.slots[i].generation == uint32(t>>32)
}

// Defer runs f on the loop before it next waits. Only the loop may call it.
func (l *Loop) Defer(f func()) { l.deferred = append(l.deferred, f) }

// Busy reports whether what this turn is about was there already when the turn
// before ended: whether there is more to do than time. Only the loop may call it.
func (l *Loop) Busy() bool { return l.busy }

// AtStart makes f run at the start of each turn, when the wait has ended. Call it
// before Run.
func (l *Loop) AtStart(f func()) { l.atStart = f }

// AtEnd makes f run at the end of each turn, before the loop waits. Call it before
// Run.
func (l *Loop) AtEnd(f func()) { l.atEnd = f }

// BeforePark makes f run before the loop parks, when there is nothing else to do.
// It must not post or defer anything. Call it before Run.
func (l *Loop) BeforePark(f func()) { l.beforePark = f }

// Post runs f on the loop soon and returns at once. Any goroutine may call it.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.posted = append(l.posted, f)
	l.mu.Unlock()
	l.Wake()
}

// Wake makes a parked loop turn once more. Any goroutine may call it; it costs a
// system call only where the loop is parked.
func (l *Loop) Wake() {
	if !l.asleep.CompareAndSwap(true, false) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	// Each write is a new edge, so that nobody needs to read the counter, which
	// overflows after 2^64 of them.
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(l.wake, one[:])
}

func (l *Loop) ctl(op, fd int, ev Events, t Token) error {
	e := unix.EpollEvent{Events: uint32(ev), Fd: int32(uint32(t)), Pad: int32(uint32(t >> 32))}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.epfd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// wait fetches events. It waits until there are some, unless tasks are waiting; it
// also ends, with none, after a Wake or when ctx is done.
func (l *Loop) wait(ctx context.Context) (int, error) {
	l.asleep.Store(true)
	defer l.asleep.Store(false)
	n, err := l.fetch()
	if n > 0 || err != nil || l.pending() || ctx.Err() != nil {
		l.busy = true
		return n, err
	}
	l.busy = false
	began := time.Now()
	if n, err = l.poll(began); n > 0 || err != nil || !l.asleep.Load() {
		return n, err
	}
	if l.beforePark != nil {
		l.beforePark()
	}
	err = l.raw.Read(func(uintptr) bool {
		var ferr error
		n, ferr = l.fetch()
		err = ferr
		return n > 0 || err != nil || !l.asleep.Load()
	})
	l.adapt(time.Since(began))
	return n, err
}

// poll asks for events again and again for as long as that has lately been worth
// it, and lets other goroutines run in between.
func (l *Loop) poll(began time.Time) (int, error) {
	for l.polling > 0 && time.Since(began) < l.polling {
		runtime.Gosched()
		// Whom we have just woken may wait for this very processor.
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		if n, err := l.fetch(); n > 0 || err != nil || !l.asleep.Load() {
			return n, err
		}
	}
	return 0, nil
}

// adapt learns from a wait that had to park: had it been short enough to poll
// through, polling grows; a long one ends it.
func (l *Loop) adapt(waited time.Duration) {
	switch {
	case waited > maxPolling:
		l.polling /= 2
		if l.polling < minPolling {
			l.polling = 0
		}
	case !l.alone:
		l.polling = min(max(minPolling, 2*l.polling), maxPolling)
	}
}

// pending reports whether tasks wait to be run.
func (l *Loop) pending() bool {
	if len(l.deferred) > 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.posted) > 0
}

// fetch fetches the events that are there, without waiting. It does not tell the
// scheduler of the system call: that would wake the runtime's monitor thread,
// which then polls every 20 µs, each time the loop has something to do.
func (l *Loop) fetch() (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epfd),
			uintptr(unsafe.Pointer(&l.events[0])), batch, 0, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("epoll_pwait", errno)
		}
	}
}

func (l *Loop) dispatch(n int) {
	for i := range n {
		e := &l.events[i]
		t := Token(uint32(e.Fd)) | Token(uint32(e.Pad))<<32
		if t == wakeToken {
			continue // it has served by ending the wait
		}
		s := &l.slots[uint32(t)]
		// What was fetched before Again is about what the descriptor was before.
		if s.generation == uint32(t>>32) && s.handler != nil && s.since != l.turn {
			s.handler.Ready(Events(e.Events))
		}
	}
}

// runTasks runs what was posted and deferred up to now. Tasks deferred by tasks
// run in the next turn, so that descriptors get their say in between.
func (l *Loop) runTasks() {
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
	deferred := l.deferred
	l.deferred = l.spare[:0]
	for _, f := range deferred {
		f()
	}
	clear(deferred)
	l.spare = deferred
}
