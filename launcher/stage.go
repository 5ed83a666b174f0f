// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/stagefile"
	"github.com/slipway-net/slipway/launcher/tarball"
)

// IsInit reports whether a process with these arguments (os.Args) is an init
// stage and must call Init at once.
func IsInit(args []string) bool { return sandbox.IsInit(args) }

// Init is the main function of an init stage: see sandbox.Init.
func Init(args []string) int { return sandbox.Init(args, tarball.Carry) }

// A Stage is the binary of an init stage that is being opened. The nil Stage is one that
// is opened when it is needed.
type Stage struct{ opened chan openedStage }

type openedStage struct {
	f   *os.File
	err error
}

// OpenStage begins to open the binary, which takes a millisecond of copying, while the
// caller does other things. It is for one container, which closes it; Close is for a
// caller that has none after all.
func OpenStage() *Stage {
	s := &Stage{make(chan openedStage, 1)}
	go func() {
		f, err := openStage()
		s.opened <- openedStage{f, err}
		close(s.opened)
	}()
	return s
}

// Close closes the binary if no container has taken it.
func (s *Stage) Close() {
	if o := <-s.opened; o.f != nil {
		o.f.Close()
	}
}

// open returns the binary, which is then the caller's to close.
func (s *Stage) open() (*os.File, error) {
	if s == nil {
		return openStage()
	}
	if o, ok := <-s.opened; ok {
		return o.f, o.err
	}
	return openStage() // taken by an earlier container
}

// openStage opens the binary that is the init stage: the small one, or this one.
func openStage() (*os.File, error) {
	f, err := stagefile.Open()
	if !errors.Is(err, stagefile.ErrNone) {
		return f, err
	}
	return openSelf()
}

// openSelf opens this binary, which is an init stage for everything.
func openSelf() (*os.File, error) {
	f, err := os.OpenFile(selfExe, unix.O_PATH, 0)
	if err != nil {
		return nil, fmt.Errorf("open our own binary: %w", err)
	}
	return f, nil
}
