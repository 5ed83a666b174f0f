// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/stagefile"
)

// exposed reports whether a container's root could change this binary, given a
// descriptor of it: unless it is real root's and closed to the caller. An owner may
// chmod(2) what is not writable yet.
func exposed() bool {
	var st unix.Stat_t
	return unix.Stat(selfExe, &st) != nil || st.Uid != 0 || unix.Access(selfExe, unix.W_OK) == nil
}

// runMode is what the init stage f is to be started for, in order to run a container.
func runMode(f *os.File) string {
	if f.Name() == selfExe && exposed() {
		return sandbox.ModeSeal
	}
	return sandbox.ModeRun
}

// sealed returns the init stage f, or, in place of this binary if that is exposed, a
// copy in memory that nobody can change: a stage that joins a container cannot seal
// itself. A command that has /proc/self/exe as its interpreter would hand the container
// the very file (CVE-2019-5736).
func sealed(f *os.File) (*os.File, error) {
	if f.Name() != selfExe || !exposed() {
		return f, nil
	}
	f.Close()
	c, err := copySelf()
	if err != nil {
		return nil, fmt.Errorf("keep our own binary from the container: copy it: %w; to mend it: let root own it", err)
	}
	return c, nil
}

// copySelf copies this binary into memory and seals it.
func copySelf() (*os.File, error) {
	self, err := os.Open(selfExe)
	if err != nil {
		return nil, err
	}
	defer self.Close()
	return stagefile.Seal(self)
}
