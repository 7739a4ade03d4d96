package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Severity says whether a problem keeps the configuration from being used.
type Severity uint8

const (
	// Error keeps the configuration from being used.
	Error Severity = iota
	// Warning does not: it is something that its author probably did not mean.
	Warning
)

// String is "error" or "warning".
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Problem is one thing that is wrong with a configuration, and what to write instead. It quotes no secrets.
type Problem struct {
	Severity Severity // whether it keeps the configuration from being used
	File     string   // the name of the file, or "command line"
	Line     int      // the line in the file, from 1; 0 where there is none
	Path     string   // the setting, such as agents[0].url; empty for the file as a whole
	Message  string   // what is wrong, and what to write instead
}

// String is "config.yaml:12: agents[0].url: what is wrong".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(p.Line))
	}
	b.WriteString(": ")
	if p.Severity == Warning {
		b.WriteString("warning: ")
	}
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// HasErrors reports whether any of the problems is an error.
func HasErrors(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}

// sortProblems puts problems in the order of the file; those of one line stay as they were found.
func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
}
