// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// printResolvConf is what the test binary does when it is started again for
// TestOwnResolvConf: it prints what it and a child of it find.
func printResolvConf() error {
	runtime.LockOSThread()
	if err := ownResolvConf("192.0.2.53"); err != nil {
		return err
	}
	out, err := exec.Command("cat", resolvConf).Output()
	fmt.Print(readFile(resolvConf), string(out))
	return err
}

func TestOwnResolvConf(t *testing.T) {
	needUserNamespaces(t)
	before := readFile(resolvConf)
	cred, err := (&front{opts: Options{User: "nobody"}}).becomeUser()
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if cred != nil {
		uid, gid = int(cred.Uid), int(cred.Gid)
	}
	cmd := exec.Command("/proc/self/exe", "-print-resolv-conf")
	cmd.Dir = "/"
	var said strings.Builder
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}},
		Credential:  &syscall.Credential{NoSetGroups: true},
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	const line = "nameserver 192.0.2.53\n"
	if got := string(out); got != line+line {
		t.Errorf("the process and its child read %q, want %q from each", got, line)
	}
	if after := readFile(resolvConf); after != before {
		t.Errorf("the machine's own file became %q", after)
	}
}
