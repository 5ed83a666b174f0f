// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// RootlessKit gives its container 65537 users by newuidmap(1), which is set-user-ID
// root. In the stage's user namespace there is no root to become, and one user only.
// So it finds other programs of these names, which map that one user: the container
// is then like those of the other helpers. No byte on the network goes another way.

// idTools are the programs, as scripts, with what they run instead.
func idTools(program string) map[string]string {
	quoted := shellWord(program)
	return map[string]string{
		"newuidmap": "exec " + quoted + " " + stageIDMap + ` uid_map "$@"`,
		"newgidmap": "exec " + quoted + " " + stageIDMap + ` gid_map "$@"`,
		// An empty range: there are no subordinate ids (getsubids(1)).
		"getsubids": `echo "0: $1 1 0"`,
	}
}

// writeIDTools makes the programs in the job's directory, for PATH.
func writeIDTools(j job) (string, error) {
	dir := filepath.Join(j.Dir, "bin")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the programs that map users: %w", err)
	}
	for name, command := range idTools(j.Program) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+command+"\n"), 0o700); err != nil {
			return "", fmt.Errorf("make the programs that map users: %w", err)
		}
	}
	return dir, nil
}

// mapIDs is newuidmap or newgidmap: the arguments are the file, a process, and
// triples of which the first is the plain user's own (user_namespaces(7)).
func mapIDs(args []string) error {
	if len(args) < 5 {
		return fmt.Errorf("map users: %d arguments: want a file, a process and a range", len(args))
	}
	file, pid, first := args[0], args[1], args[2:5]
	dir := filepath.Join("/proc", pid)
	if file == "gid_map" {
		// A user without CAP_SETGID may map its group only after this.
		if err := os.WriteFile(filepath.Join(dir, "setgroups"), []byte("deny"), 0); err != nil {
			return fmt.Errorf("map groups: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(strings.Join(first, " ")), 0); err != nil {
		return fmt.Errorf("map users: %w", err)
	}
	return nil
}
