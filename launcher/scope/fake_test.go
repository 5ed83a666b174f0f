// SPDX-License-Identifier: Apache-2.0

package scope_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	godbus "github.com/godbus/dbus/v5"
)

// A fake answers as systemd does at its private socket, as far as it is told to.
type fake struct {
	socket string
	result string // of jobs
	refuse string // the error of StartTransientUnit, "" for none
	mute   string // when it falls silent: "auth", "call" or "job"

	work sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns []net.Conn
	units []*godbus.Message // StartTransientUnit
}

// serve runs f until the test ends.
func (f *fake) serve(t *testing.T) {
	t.Helper()
	f.socket = filepath.Join(t.TempDir(), "private")
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	f.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			f.mu.Unlock()
			f.work.Go(func() { f.answer(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			c.Close()
		}
		f.mu.Unlock()
		f.work.Wait()
	})
}

// answer answers one connection until that ends.
func (f *fake) answer(c net.Conn) {
	r := bufio.NewReader(c)
	for begun := false; !begun; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch word := strings.Trim(line, "\x00\r\n"); {
		case f.mute == "auth":
		case word == "BEGIN":
			begun = true
		case strings.HasPrefix(word, "AUTH EXTERNAL"):
			_, _ = io.WriteString(c, "OK 00112233445566778899aabbccddeeff\r\n")
		case word == "AUTH":
			_, _ = io.WriteString(c, "REJECTED EXTERNAL\r\n")
		default:
			_, _ = io.WriteString(c, "ERROR\r\n")
		}
	}
	for {
		m, err := godbus.DecodeMessage(r)
		if err != nil {
			return
		}
		f.obey(c, m)
	}
}

// job is the name of every job.
const job = godbus.ObjectPath("/org/freedesktop/systemd1/job/7")

// obey answers one call.
func (f *fake) obey(c net.Conn, m *godbus.Message) {
	reply := &godbus.Message{Type: godbus.TypeMethodReply, Headers: map[godbus.HeaderField]godbus.Variant{
		godbus.FieldReplySerial: godbus.MakeVariant(m.Serial()),
	}}
	start := m.Headers[godbus.FieldMember].Value() == "StartTransientUnit"
	if start {
		f.mu.Lock()
		f.units = append(f.units, m)
		f.mu.Unlock()
		fill(reply, job)
	}
	switch {
	case f.mute == "call":
		return
	case start && f.refuse != "":
		reply.Type = godbus.TypeError
		reply.Headers[godbus.FieldErrorName] = godbus.MakeVariant("org.freedesktop.systemd1.UnitExists")
		fill(reply, f.refuse)
	}
	_ = reply.EncodeTo(c, binary.LittleEndian) // who asks may have given up
	if !start || f.refuse != "" || f.mute == "job" {
		return
	}
	removed := &godbus.Message{Type: godbus.TypeSignal, Headers: map[godbus.HeaderField]godbus.Variant{
		godbus.FieldPath:      godbus.MakeVariant(godbus.ObjectPath("/org/freedesktop/systemd1")),
		godbus.FieldInterface: godbus.MakeVariant("org.freedesktop.systemd1.Manager"),
		godbus.FieldMember:    godbus.MakeVariant("JobRemoved"),
	}}
	fill(removed, uint32(7), job, m.Body[0], f.result)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, to := range f.conns { // as systemd does at direct connections
		_ = removed.EncodeTo(to, binary.LittleEndian)
	}
}

func fill(m *godbus.Message, body ...any) {
	m.Body = body
	m.Headers[godbus.FieldSignature] = godbus.MakeVariant(godbus.SignatureOf(body...))
}
