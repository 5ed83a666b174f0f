// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// A helper that did not start or died giveUpTries times in a row, in giveUpCases
// cases or more, is not started again under the same conditions: what it costs to
// wait for it is time that the other subjects need.
const (
	giveUpTries = 3
	giveUpCases = 2
)

// A setting is what a subject may fail under while it works under others.
type setting struct {
	subject    string
	mtu        int
	family     int
	congestion string
}

// A streak is a row of failures of one subject under the same conditions.
type streak struct {
	tries int
	cases map[string]bool
	last  string
}

// A patience counts the failures of helpers. The zero patience has seen none.
type patience struct {
	streaks map[setting]*streak
}

// setting returns the setting of the step.
func (s step) setting() setting {
	return setting{s.Subject.Name, s.MTU, s.Family, s.Congestion}
}

// over returns why the step is not to be tried any more, or the empty string.
func (p *patience) over(s step) string {
	k := p.streaks[s.setting()]
	if k == nil || k.tries < giveUpTries || len(k.cases) < giveUpCases {
		return ""
	}
	return fmt.Sprintf("given up after the helper failed %d times in a row, at last with: %s", k.tries, k.last)
}

// special reports whether the helper is started in another way for the case than for
// most: that this fails says nothing about the others.
func special(c Case) bool {
	_, publishes := c.(publisher)
	return publishes || toLoopback(c) || launches(c)
}

// note takes down how a step ended: failed is empty where the helper lived.
func (p *patience) note(s step, failed string) {
	if special(s.Case) {
		return
	}
	if failed == "" {
		delete(p.streaks, s.setting())
		return
	}
	if p.streaks == nil {
		p.streaks = map[setting]*streak{}
	}
	k := p.streaks[s.setting()]
	if k == nil {
		k = &streak{cases: map[string]bool{}}
		p.streaks[s.setting()] = k
	}
	k.tries++
	k.cases[s.Case.Name()] = true
	k.last = failed
}
