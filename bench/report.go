package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// median of what f says of the turns of a series; 0 if it has none.
func (s *series) median(f func(turn) float64) float64 {
	v := s.sorted(f)
	if len(v) == 0 {
		return 0
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func (s *series) sorted(f func(turn) float64) []float64 {
	if s.err != nil {
		return nil
	}
	var v []float64
	for _, t := range s.turns {
		v = append(v, f(t))
	}
	slices.Sort(v)
	return v
}

// ratio is a series' median to that of the group's first, 0 if one is missing.
func (g *group) ratio(s *series) float64 {
	base := g.series[0].median(turn.micros)
	if base == 0 {
		return 0
	}
	return s.median(turn.micros) / base
}

// title is the name, and how many turns do not count.
func (s *series) title() string {
	if s.lost == 0 {
		return s.name
	}
	return fmt.Sprintf("%s (%d turns lost)", s.name, s.lost)
}

func (g *group) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", g.title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "CPU µs\tspread\tin the kernel\tratio\trequests/s\tMB\t\t")
	for _, s := range g.series {
		v := s.sorted(turn.micros)
		if len(v) == 0 {
			fmt.Fprintf(t, "–\t\t\t\t\t\t\t%s\n", "  "+s.name+" (failed)")
			continue
		}
		fmt.Fprintf(t, "%.1f\t%.1f–%.1f\t%.1f\t%.2f\t%.0f\t%.0f\t\t%s\n", s.median(turn.micros), v[0], v[len(v)-1],
			s.median(turn.system), g.ratio(s), s.median(turn.rate), s.process.memory(), s.title())
	}
	_ = t.Flush()
}

// targets are what Dragoman may cost, as a multiple of what bare fasthttp
// spends on passing the same.
var targets = []struct {
	group, series, what string
	most                float64
}{
	{"json", namePassed, "passed JSON", 1.2},
	{"json", nameOver, "translated JSON", 1.5},
	{"burst", nameOver, "translated stream, closed loop", 0.7},
	{"spaced", nameOver, "translated stream, fixed rate", 1.1},
}

func printTargets(w io.Writer, groups []*group) {
	fmt.Fprintln(w, "\nTargets, × bare fasthttp")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "route\ttarget\treached\t")
	for _, target := range targets {
		reached, verdict := "–", "not measured"
		for _, g := range groups {
			if g.name != target.group {
				continue
			}
			for _, s := range g.series {
				r := g.ratio(s)
				if s.name != target.series || r == 0 {
					continue
				}
				reached, verdict = fmt.Sprintf("%.2f", r), "missed"
				if r <= target.most {
					verdict = "met"
				}
			}
		}
		fmt.Fprintf(t, "%s\t%.1f\t%s\t%s\n", target.what, target.most, reached, verdict)
	}
	_ = t.Flush()
}
