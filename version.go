package main

import (
	"runtime"
	"runtime/debug"
)

// release is set by the linker when a release is built.
var release = ""

// version tells the release, the commit it was built from, and the compiler.
func version() string { return "dragoman " + build() + " " + runtime.Version() }

// build tells the release, and the commit it was built from.
func build() string {
	v, rev, dirty := release, "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && len(s.Value) >= 12:
				rev = " " + s.Value[:12]
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+changes"
			}
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return v + rev + dirty
}
