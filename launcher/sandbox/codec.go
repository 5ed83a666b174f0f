// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errCutOff is the error of an order that ends too early.
var errCutOff = errors.New("the order is cut off")

// Encode writes o down for an init stage. The form is private to one binary: fields
// in the order of Order.code, numbers as varints, texts and lists after their length.
// A stage reads it in microseconds, where encoding/json and its types would take
// it a third of its whole time.
func (o *Order) Encode() []byte {
	c := coder{out: make([]byte, 0, 8<<10), writing: true}
	o.code(&c)
	return c.out
}

// Decode reads what Encode wrote. Its error names what is wrong with b.
func Decode(b []byte) (*Order, error) {
	var o Order
	c := coder{in: b}
	o.code(&c)
	if c.err == nil && len(c.in) > 0 {
		c.err = errors.New("the order has something after its end")
	}
	if c.err == nil {
		c.err = o.check()
	}
	if c.err != nil {
		return nil, fmt.Errorf("decode the order: %w", c.err)
	}
	return &o, nil
}

// code writes o to c or reads it from there.
func (o *Order) code(c *coder) {
	c.texts(&o.Hostname, &o.Domainname, &o.Base)
	c.lists(&o.Runtime, &o.RuntimeEnv)
	c.flags(&o.OwnNetwork, &o.Mapped, &o.Legacy)
	r := &o.Root
	c.texts(&r.Dir, &r.Upper, &r.Work)
	c.lists(&r.Lowers, &r.Data)
	c.flags(&r.Volatile, &r.ReadOnly, &r.Fuse)
	for m := range each(c, &o.Mounts) {
		c.texts(&m.Destination, &m.Type, &m.Source)
		c.lists(&m.Options)
	}
	for d := range each(c, &o.Devices) {
		c.text(&d.Path)
		c.flags(&d.Block)
		number(c, &d.Major)
		number(c, &d.Minor)
	}
	for f := range each(c, &o.Files) {
		c.texts(&f.Path, &f.Content)
		c.flags(&f.Entry)
	}
	for s := range each(c, &o.Sysctls) {
		c.texts(&s.Name, &s.Value)
	}
	c.lists(&o.Masked, &o.Readonly)
	o.Process.code(c)
}

func (p *Process) code(c *coder) {
	c.lists(&p.Args, &p.Env, &p.Groups)
	c.texts(&p.Cwd, &p.User)
	number(c, &p.Umask)
	number(c, &p.Bounding)
	number(c, &p.Caps)
	number(c, &p.UserCaps)
	filter := string(p.Seccomp)
	c.text(&filter)
	p.Seccomp = []byte(filter)
	for l := range each(c, &p.Rlimits) {
		number(c, &l.Resource)
		number(c, &l.Soft)
		number(c, &l.Hard)
	}
	number(c, &p.OOMScoreAdj)
	number(c, &p.TimerSlack)
	number(c, &p.Rows)
	number(c, &p.Columns)
	number(c, &p.Files)
	c.flags(&p.NoNewPrivs, &p.Terminal, &p.Streams[0], &p.Streams[1], &p.Streams[2], &p.Init)
}

// A coder goes through the fields of an order in one fixed sequence, and writes each
// or reads it, so that both sides cannot differ. After an error it does nothing.
type coder struct {
	writing bool
	out     []byte
	in      []byte
	err     error
}

// number codes one number. Negative ones are large, as two's complement has them.
func number[N ~int32 | ~uint32 | ~uint64](c *coder, n *N) {
	if c.writing {
		c.out = binary.AppendUvarint(c.out, uint64(*n))
		return
	}
	v, k := binary.Uvarint(c.in)
	if k <= 0 || c.err != nil {
		c.fail()
		return
	}
	c.in, *n = c.in[k:], N(v)
}

func (c *coder) fail() {
	if c.err == nil {
		c.err = errCutOff
	}
	c.in = nil
}

// length codes the length of something that is at least so many bytes long.
func (c *coder) length(n int) int {
	v := uint64(n)
	number(c, &v)
	if !c.writing && v > uint64(len(c.in)) {
		c.fail()
		return 0
	}
	return int(v)
}

func (c *coder) text(s *string) {
	n := c.length(len(*s))
	if c.writing {
		c.out = append(c.out, *s...)
		return
	}
	*s, c.in = string(c.in[:n]), c.in[n:]
}

func (c *coder) texts(all ...*string) {
	for _, s := range all {
		c.text(s)
	}
}

func (c *coder) lists(all ...*[]string) {
	for _, list := range all {
		for s := range each(c, list) {
			c.text(s)
		}
	}
}

func (c *coder) flags(all ...*bool) {
	for _, f := range all {
		var v uint32
		if *f {
			v = 1
		}
		number(c, &v)
		*f = v != 0
	}
}

// each codes the length of a list and yields its elements, one after the other.
func each[T any](c *coder, list *[]T) func(yield func(*T) bool) {
	return func(yield func(*T) bool) {
		n := c.length(len(*list))
		if !c.writing && n > 0 {
			*list = make([]T, n)
		}
		for i := range n {
			if c.err != nil || !yield(&(*list)[i]) {
				return
			}
		}
	}
}
