// SPDX-License-Identifier: Apache-2.0

package tap

import "os"

// Scratch makes a network namespace, in a user namespace of its own, to try
// things out in, and returns the file that keeps both alive, which the caller
// closes. Its path in /proc/self/fd can be a Target's NetNS.
func Scratch() (*os.File, error) {
	s, err := newScript()
	if err != nil {
		return nil, err
	}
	defer s.close()
	s.unshare()
	const path = "/proc/self/ns/net"
	s.open("open "+path, regInner, path, 0)
	if err := s.run(); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(s.take(regInner)), path), nil
}
