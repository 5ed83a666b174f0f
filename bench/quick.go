// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strings"
)

// quickCases are what a quick run measures: of cases that differ in one number, mostly
// one, and none that takes seconds for each subject.
var quickCases = regexp.MustCompile(`^tcp/throughput/(up/1|down/1|up/8)$|^tcp/connect/(1|16)$|^tcp/roundtrip/|^udp/(up|down)/1400$` +
	`|^loopback/(throughput/up|roundtrip/1)$|^publish/remote/(tcp/down|connect/16|udp/1400)$|^publish/loopback/tcp/down$` +
	`|^dns/16$|^fairness/up$|^memory$|^start$`)

// leftOutOfQuick is why a part of a case is missing.
const leftOutOfQuick = "left out of a quick run"

// inQuick reports whether a quick run measures the case.
func inQuick(c Case) bool { return quickCases.MatchString(c.Name()) }

// hasty reports whether cases are to be left out or shortened: not those that are
// asked for by name, nor those of container engines, which get a smaller image instead.
func (p Plan) hasty() bool { return p.Quick && p.Cases == "" && p.Launch == nil }

// hurry sets what makes a run quick, but for the flags that are given.
func (p *Plan) hurry(given map[string]bool) {
	if !given["repeat"] {
		p.Repeat = quickRepeat
	}
	if !given["duration"] {
		p.Window = quickWindow
	}
	if !given["limit"] {
		p.Limit = quickLimit
	}
}

// forgone says what a quick run leaves out; empty of any other run.
func (p Plan) forgone() string {
	if !p.hasty() {
		return ""
	}
	var names []string
	for _, c := range allCases() {
		if p.repeats(c) == 0 {
			names = append(names, c.Name())
		}
	}
	return "a quick run leaves out " + strings.Join(names, ", ") + ", and bbr unless -cc names it; a full run has them"
}
