// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What runs where the flags do not say otherwise.
const (
	defaultSubjects   = "direct,slirp4netns,pasta,rootlesskit,gvisor-tap-vsock,slipway," + stackedSubject
	defaultMTUs       = "65520,1500"
	defaultCongestion = "cubic,bbr"
	defaultRepeat     = 3
	defaultWindow     = time.Second
	quickCongestion   = "cubic"
	quickRepeat       = 2
	quickWindow       = 300 * time.Millisecond
	minWindow         = 50 * time.Millisecond
	defaultLimit      = 35 * time.Minute
	quickLimit        = 3 * time.Minute
	defaultStartLimit = 10 * time.Second
)

// stackedSubject is slipway with every byte going through its own TCP stack, in the
// cases in which that may make a difference: the kernel joins no TCP connections.
const stackedSubject = "stacked=slipway+--accel=off#^(tcp|fairness|longpath)/|^(memory|start)$"

// Bounds of an MTU: below, IPv6 stops (RFC 8200 §5); above, no tap goes.
const (
	minMTU = 1280
	maxMTU = 65521
)

// warmupShare is the warm-up before a window, as a part of it.
const warmupShare = 0.3

// A Plan says what is to be measured. It travels from the front to the stage.
// What it yields in which order, rounds says; how the limit is kept, budget.go.
type Plan struct {
	Cases    string        `json:"cases"` // regular expression, matched against names
	Subjects []Subject     `json:"subjects"`
	Repeat   int           `json:"repeat"`
	Window   time.Duration `json:"window_ns"`
	Warmup   time.Duration `json:"warmup_ns"`
	// Limit is the time that a run aims to stay within: it leaves out rounds that
	// would go beyond, but no first round of a case.
	Limit      time.Duration `json:"limit_ns"`
	MTUs       []int         `json:"mtus"`
	Families   []int         `json:"families"` // 4 or 6
	Congestion []string      `json:"congestion"`
	// StartLimit bounds the time until a helper says that it is ready.
	StartLimit time.Duration `json:"start_limit_ns"`
	Pin        Pins          `json:"pin"`            // CPUs given to processes
	Gaps       []Gap         `json:"gaps,omitempty"` // what this machine cannot measure
	// Program is a copy of the bench that the plain user can execute; empty where no
	// subject needs one.
	Program string `json:"program,omitempty"`
	// Quick leaves out cases that take long, unless Cases asks for some by name.
	Quick bool `json:"quick,omitempty"`
	// Soak is how long to keep a load on one slipway instead of measuring; 0 to measure.
	Soak time.Duration `json:"soak_ns,omitempty"`
	// Launch is set where container engines are measured instead of network helpers;
	// then MTUs and Families hold 0, and Congestion "".
	Launch *LaunchPlan `json:"launch,omitempty"`
}

// Options are what the command line says.
type Options struct {
	Plan Plan
	Out  string // name or path of the JSON file; empty for none
	HTML string // path of the page with plots; empty for none
	// From is a results file, or a directory of them, to show instead of measuring;
	// empty to measure.
	From string
	User string // whom to become when started by root
	List bool   // name the cases and end
	// Readme is a results file, or a directory of them, to write into the README
	// instead of measuring; empty to measure.
	Readme string
}

// A step is one run of one case.
type step struct {
	Case       Case
	Subject    Subject
	MTU        int
	Family     int
	Congestion string
	Repeat     int
}

// ParseOptions reads the command line. Its errors are for the user; what is wrong
// with a flag has then been printed to w, with the usage.
func ParseOptions(args []string, w io.Writer) (Options, error) {
	var (
		o                             Options
		subjects, mtus, families, ccs string
		f                             = flag.NewFlagSet("bench", flag.ContinueOnError)
		launch                        launchFlags
	)
	f.SetOutput(w)
	launch.add(f)
	f.StringVar(&o.Plan.Cases, "cases", "", "run the cases whose `name` matches this regular expression; see -list")
	f.StringVar(&subjects, "subjects", defaultSubjects, "comma-separated `list` of [NAME=]TOOL[@PATH][+ARG…][#CASES]: CASES is a regular expression as of -cases")
	f.IntVar(&o.Plan.Repeat, "repeat", defaultRepeat, "`times` to run each case for each subject, taking turns")
	f.DurationVar(&o.Plan.Window, "duration", defaultWindow, "`time` over which one case measures")
	f.DurationVar(&o.Plan.StartLimit, "start-limit", defaultStartLimit, "`time` within which a helper must be ready")
	f.Var(&o.Plan.Pin, "pin", "tie kinds of process to `CPUS`, as in peer=0,container=1,helper=0-1; those not named run where they like")
	f.DurationVar(&o.Plan.Limit, "limit", defaultLimit, "`time` for the whole run: where it is behind, repeats are left out")
	f.StringVar(&mtus, "mtu", defaultMTUs, "comma-separated `list` of MTUs of the container's link; the first is used for all cases")
	f.StringVar(&families, "family", "4", "comma-separated `list` of 4 and 6; the first is used for all cases")
	f.StringVar(&ccs, "cc", defaultCongestion, "comma-separated `list` of TCP congestion controls; the first is used for all cases")
	f.BoolVar(&o.Plan.Quick, "quick", false, fmt.Sprintf("a short look: -repeat %d -duration %s -limit %s -cc %s, without the slow cases", quickRepeat, quickWindow, quickLimit, quickCongestion))
	f.StringVar(&o.Out, "out", "", "write bench/results/`NAME`.json, or a file if it is a path")
	f.StringVar(&o.HTML, "html", "", "write a page with plots into `FILE`")
	f.StringVar(&o.From, "from", "", "measure nothing: show the results in `FILE`, or the newest in a directory; with -html as a page")
	f.StringVar(&o.User, "user", "nobody", "the plain `user` to become when started by root")
	f.BoolVar(&o.List, "list", false, "list the cases and end")
	f.StringVar(&o.Readme, "readme", "", "measure nothing: write the results in `FILE`, or the newest in a directory, into README.md and docs/benchmarks.md")
	f.DurationVar(&o.Plan.Soak, "soak", 0, "measure nothing: load one slipway for this `time` and see that it holds nothing back")
	if err := f.Parse(args); err != nil {
		return Options{}, err
	}
	if f.NArg() > 0 {
		return Options{}, fmt.Errorf("unexpected argument %q: bench takes flags only", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(x *flag.Flag) { given[x.Name] = true })
	if o.Plan.Quick {
		o.Plan.hurry(given)
		if !given["cc"] {
			ccs = quickCongestion
		}
	}
	if o.Plan.Soak > 0 && !given["subjects"] {
		subjects = ownTool
	}
	if err := launch.apply(&o.Plan, given, &subjects); err != nil {
		return o, err
	}
	o.Plan.Warmup = time.Duration(float64(o.Plan.Window) * warmupShare)
	o.Plan.Congestion = splitList(ccs)
	var errs [5]error
	o.Plan.Subjects, errs[0] = parseList(subjects, ParseSubject)
	o.Plan.MTUs, errs[1] = parseList(mtus, strconv.Atoi)
	o.Plan.Families, errs[2] = parseList(families, strconv.Atoi)
	errs[3] = o.Plan.validate()
	errs[4] = o.Plan.forSoak()
	if launch.on {
		o.Plan.withoutNetwork()
	}
	return o, errors.Join(errs[:]...)
}

// validate checks what the stage relies on.
func (p Plan) validate() error {
	if _, err := regexp.Compile(p.Cases); err != nil {
		return fmt.Errorf("-cases: %w", err)
	}
	if p.Repeat < 1 {
		return fmt.Errorf("-repeat %d: want at least 1", p.Repeat)
	}
	if p.Window < minWindow {
		return fmt.Errorf("-duration %s: want at least %s", p.Window, minWindow)
	}
	if p.StartLimit <= 0 {
		return fmt.Errorf("-start-limit %s: want more than none", p.StartLimit)
	}
	for _, m := range p.MTUs {
		if m < minMTU || m > maxMTU {
			return fmt.Errorf("-mtu %d: want %d to %d", m, minMTU, maxMTU)
		}
	}
	for _, f := range p.Families {
		if f != 4 && f != 6 {
			return fmt.Errorf("-family %d: want 4 or 6", f)
		}
	}
	names := map[string]bool{}
	for _, s := range p.Subjects {
		if names[s.Name] {
			return fmt.Errorf("-subjects: %q is there twice: give one a name, as in NAME=%s", s.Name, s.Name)
		}
		names[s.Name] = true
	}
	if len(p.Congestion) == 0 {
		return fmt.Errorf("-cc: want at least one congestion control")
	}
	if err := p.fitting(); err != nil {
		return err
	}
	if len(p.cases()) == 0 {
		return fmt.Errorf("-cases %q: matches no case; -list shows their names", p.Cases)
	}
	return nil
}

// forSoak reduces the plan of a soak to its one subject.
func (p *Plan) forSoak() error {
	if p.Soak == 0 {
		return nil
	}
	if p.Soak < minSoak {
		return fmt.Errorf("-soak %s: want at least %s", p.Soak, minSoak)
	}
	p.Subjects = slices.DeleteFunc(p.Subjects, func(s Subject) bool { return s.Tool != "slipway" })
	if len(p.Subjects) != 1 {
		return fmt.Errorf("-soak: -subjects names %d slipways: want one", len(p.Subjects))
	}
	return nil
}

// cases returns the cases that the plan selects.
func (p Plan) cases() []Case {
	match := regexp.MustCompile(p.Cases)
	return slices.DeleteFunc(p.ofKind(), func(c Case) bool {
		return !match.MatchString(c.Name()) || p.repeats(c) == 0
	})
}

// repeats is how often the case runs for each subject.
func (p Plan) repeats(c Case) int {
	if p.hasty() && !inQuick(c) {
		return 0
	}
	if r, ok := c.(rare); ok {
		return min(p.Repeat, r.rounds(p))
	}
	return p.Repeat
}

// steps returns all runs in their order.
func (p Plan) steps() []step {
	return slices.Concat(p.rounds()...)
}

// rounds returns all runs in their order. In a round each subject has its turn at
// one case. Every case has had its first round before any has its second, so that
// the repeats of a case lie far apart, and a run that must end early has left out
// no case and no subject.
func (p Plan) rounds() [][]step {
	var all [][]step
	for repeat := range p.Repeat {
		for _, s := range p.conditions() {
			if repeat >= p.repeats(s.Case) {
				continue
			}
			s.Repeat = repeat
			if r := p.turns(s); len(r) > 0 {
				all = append(all, r)
			}
		}
	}
	return all
}

// conditions returns the cases with what each is run at.
func (p Plan) conditions() []step {
	var all []step
	for ci, cc := range p.Congestion {
		for fi, family := range p.Families {
			for mi, mtu := range p.MTUs {
				for _, c := range p.cases() {
					if !c.Wide() && ci+fi+mi > 0 {
						continue
					}
					all = append(all, step{Case: c, MTU: mtu, Family: family, Congestion: cc})
				}
			}
		}
	}
	return all
}

// turns returns one round: a run of the case for each subject.
func (p Plan) turns(s step) []step {
	var all []step
	for _, s.Subject = range p.Subjects {
		if s.Case.NeedsHelper() && s.Subject.Tool == directName || !s.Subject.takesPart(s.Case) {
			continue
		}
		all = append(all, s)
	}
	return all
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func parseList[T any](s string, parse func(string) (T, error)) ([]T, error) {
	var all []T
	for _, item := range splitList(s) {
		v, err := parse(item)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("empty list %q", s)
	}
	return all, nil
}
