// SPDX-License-Identifier: Apache-2.0

package stagefile_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/stagefile"
)

// TestOpen looks at the file where one is linked in (go test -tags slipway_stage, after
// make), and at the error where none is.
func TestOpen(t *testing.T) {
	t.Parallel()
	f, err := stagefile.Open()
	if !stagefile.Linked() {
		if !errors.Is(err, stagefile.ErrNone) {
			t.Errorf("error %v, want ErrNone", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0}, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing to it: %v, want EPERM", err)
	}
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncating it: %v, want EPERM", err)
	}
	if again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0); err == nil {
		if _, err := again.Write([]byte{0}); !errors.Is(err, unix.EPERM) {
			t.Errorf("writing to it, opened anew: %v, want EPERM", err)
		}
		again.Close()
	}
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 125 {
		t.Errorf("it runs with %v, want 125 for a call without orders: %s", err, out)
	}
}
