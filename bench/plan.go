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
	defaultSubjects = "direct,slirp4netns,pasta,slipway"
	defaultMTUs     = "65520,1500"
	defaultRepeat   = 3
	defaultWindow   = 2 * time.Second
	quickRepeat     = 2
	quickWindow     = 400 * time.Millisecond
	minWindow       = 50 * time.Millisecond
	defaultLimit    = 30 * time.Minute
	quickLimit      = 3 * time.Minute
)

// Bounds of an MTU: below, IPv6 stops (RFC 8200 §5); above, no tap goes.
const (
	minMTU = 1280
	maxMTU = 65521
)

// warmupShare is the warm-up before a window, as a part of it.
const warmupShare = 0.3

// A Plan says what is to be measured. It travels from the front to the stage.
type Plan struct {
	Cases    string        `json:"cases"` // regular expression, matched against names
	Subjects []Subject     `json:"subjects"`
	Repeat   int           `json:"repeat"`
	Window   time.Duration `json:"window_ns"`
	Warmup   time.Duration `json:"warmup_ns"`
	// Limit is the time that a run aims to stay within: where it is behind, it leaves
	// repeats out, but no first run of a case.
	Limit      time.Duration `json:"limit_ns"`
	MTUs       []int         `json:"mtus"`
	Families   []int         `json:"families"` // 4 or 6
	Congestion []string      `json:"congestion"`
	Iperf      bool          `json:"iperf"` // let iperf3 check the throughput cases
	// Soak is how long to keep a load on one slipway instead of measuring; 0 to measure.
	Soak time.Duration `json:"soak_ns,omitempty"`
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
		quick                         bool
		f                             = flag.NewFlagSet("bench", flag.ContinueOnError)
	)
	f.SetOutput(w)
	f.StringVar(&o.Plan.Cases, "cases", "", "run the cases whose `name` matches this regular expression; see -list")
	f.StringVar(&subjects, "subjects", defaultSubjects, "comma-separated `list` of [NAME=]TOOL[@PATH][+ARG…]")
	f.IntVar(&o.Plan.Repeat, "repeat", defaultRepeat, "`times` to run each case for each subject, taking turns")
	f.DurationVar(&o.Plan.Window, "duration", defaultWindow, "`time` over which one case measures")
	f.DurationVar(&o.Plan.Limit, "limit", defaultLimit, "`time` for the whole run: where it is behind, repeats are left out")
	f.StringVar(&mtus, "mtu", defaultMTUs, "comma-separated `list` of MTUs of the container's link; the first is used for all cases")
	f.StringVar(&families, "family", "4", "comma-separated `list` of 4 and 6; the first is used for all cases")
	f.StringVar(&ccs, "cc", "cubic", "comma-separated `list` of TCP congestion controls; the first is used for all cases")
	f.BoolVar(&quick, "quick", false, fmt.Sprintf("a short look: -repeat %d -duration %s -limit %s", quickRepeat, quickWindow, quickLimit))
	f.StringVar(&o.Out, "out", "", "write bench/results/`NAME`.json, or a file if it is a path")
	f.StringVar(&o.HTML, "html", "", "write a page with plots into `FILE`")
	f.StringVar(&o.From, "from", "", "measure nothing: show the results in `FILE`, or the newest in a directory; with -html as a page")
	f.StringVar(&o.User, "user", "nobody", "the plain `user` to become when started by root")
	f.BoolVar(&o.Plan.Iperf, "iperf3", false, "add cases in which iperf3 checks the throughput")
	f.BoolVar(&o.List, "list", false, "list the cases and end")
	f.StringVar(&o.Readme, "readme", "", "measure nothing: write the results in `FILE`, or the newest in a directory, into README.md and docs/benchmarks.md")
	f.DurationVar(&o.Plan.Soak, "soak", 0, "measure nothing: load one slipway for this `time` and see that it holds nothing back")
	if err := f.Parse(args); err != nil {
		return Options{}, err
	}
	if f.NArg() > 0 {
		return Options{}, fmt.Errorf("unexpected argument %q: bench takes flags only", f.Arg(0))
	}
	if quick {
		given := map[string]bool{}
		f.Visit(func(x *flag.Flag) { given[x.Name] = true })
		if !given["repeat"] {
			o.Plan.Repeat = quickRepeat
		}
		if !given["duration"] {
			o.Plan.Window = quickWindow
		}
		if !given["limit"] {
			o.Plan.Limit = quickLimit
		}
	}
	o.Plan.Warmup = time.Duration(float64(o.Plan.Window) * warmupShare)
	o.Plan.Congestion = splitList(ccs)
	var errs [5]error
	o.Plan.Subjects, errs[0] = parseList(subjects, ParseSubject)
	o.Plan.MTUs, errs[1] = parseList(mtus, strconv.Atoi)
	o.Plan.Families, errs[2] = parseList(families, strconv.Atoi)
	errs[3] = o.Plan.validate()
	errs[4] = o.Plan.forSoak()
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
	all := allCases()
	if p.Iperf {
		all = append(all, iperfCases()...)
	}
	return slices.DeleteFunc(all, func(c Case) bool { return !match.MatchString(c.Name()) })
}

// steps returns all runs in their order: the subjects take turns within each case.
func (p Plan) steps() []step {
	var all []step
	for ci, cc := range p.Congestion {
		for fi, family := range p.Families {
			for mi, mtu := range p.MTUs {
				for _, c := range p.cases() {
					if !c.Wide() && ci+fi+mi > 0 {
						continue
					}
					all = append(all, p.turns(step{Case: c, MTU: mtu, Family: family, Congestion: cc})...)
				}
			}
		}
	}
	return all
}

// behindSlack is the part of the limit by which a run may be late before repeats
// are left out.
const behindSlack = 0.05

// behind reports whether the step, with done steps of total behind it after the
// time spent, is to be left out so that the run stays within its limit.
func (p Plan) behind(s step, done, total int, spent time.Duration) bool {
	due := float64(done)/float64(total) + behindSlack
	return s.Repeat > 0 && float64(spent) > min(due, 1)*float64(p.Limit)
}

// turns returns one case's runs, A B C A B C ….
func (p Plan) turns(s step) []step {
	var all []step
	for s.Repeat = range p.Repeat {
		for _, s.Subject = range p.Subjects {
			if s.Case.NeedsHelper() && s.Subject.Tool == directName {
				continue
			}
			all = append(all, s)
		}
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
