// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns"
)

// A Begun is an init stage that was started before all of its container is known. Its Go
// runtime starts, and its ids are mapped, while the caller looks for the image and writes
// the container down; then it waits for its order. The nil Begun is none.
type Begun struct {
	r       *running // nil once a container has taken it, or it is closed
	net     NetMode
	ids     userns.Mapping
	tty     bool
	streams [3]*os.File
	files   []int
}

// Begin starts an init stage for a container that will have c's network mode, ids, terminal
// and streams. It returns nil where more than these decides how that is started: limits, an
// OCI runtime, namespaces of others. The caller closes it once Run has returned, or if that
// is not called.
func Begin(c Config) *Begun {
	if c.Net == "" {
		c.Net = NetPrivate
	}
	own := c.Net == NetPrivate || c.Net == NetNone || c.Net == NetHost
	if !own || c.Runtime != "" || !c.Limits.IsZero() {
		return nil
	}
	ct := &Container{cfg: c, plan: plan{mapped: isMapped(c.IDs), streams: replacedStreams(&c)}}
	r, err := ct.launch((*running).startInit)
	if err != nil {
		return nil // Run will say what is wrong
	}
	return &Begun{r: r, net: c.Net, ids: c.IDs, tty: c.TTY, streams: [3]*os.File{c.Stdin, c.Stdout, c.Stderr}, files: c.Files}
}

// take hands the init stage over to a container, if it is one for that; nil is none.
func (b *Begun) take(c *Config) *running {
	if b == nil || b.r == nil || !b.fits(c) {
		return nil
	}
	r := b.r
	b.r = nil
	return r
}

func (b *Begun) fits(c *Config) bool {
	return b.net == c.Net && b.tty == c.TTY && b.ids.Equal(c.IDs) && c.Runtime == "" && c.Limits.IsZero() &&
		b.streams == [3]*os.File{c.Stdin, c.Stdout, c.Stderr} && slices.Equal(b.files, c.Files)
}

// Close ends the init stage, unless a container has taken it.
func (b *Begun) Close() {
	if b == nil || b.r == nil {
		return
	}
	r := b.r
	b.r = nil
	if r.wasBegun() != nil {
		return
	}
	close(r.ordered)
	if !r.ids.IsZero() {
		<-r.mapped // by the number of a process that nobody has waited for yet
	}
	r.kill()
	r.await()
	r.work.Wait()
	r.closeOutlets()
	r.ctl.Close()
	unix.Close(r.pidfd)
}
