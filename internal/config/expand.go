package config

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// shownName is what a name must look like to be quoted where a secret belongs: hardly any secret looks so.
	shownName = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)
)

// expand replaces the variables of a text, once: what comes out is not looked at again.
//
//	${NAME}           the variable NAME; it is a problem if it is not set
//	${NAME:-default}  the variable NAME, or the default if it is not set or empty, as in a shell
//	$$                a dollar
//
// A dollar before anything else is a dollar. The problem quotes neither values nor, where hidden, what may be a secret.
func (d *decoder) expand(text string, hidden bool) (out, problem string) {
	if !strings.Contains(text, "$") {
		return text, ""
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String(), ""
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			text = rest[1:]
			continue
		case !strings.HasPrefix(rest, "{"):
			b.WriteByte('$')
			text = rest
			continue
		}
		inner, after, closed := strings.Cut(rest[1:], "}")
		if !closed {
			return "", "has a ${ without its }: write ${NAME}, or $$ for a dollar"
		}
		name, fallback, hasFallback := strings.Cut(inner, ":-")
		if !variableName.MatchString(name) {
			return "", "has a ${…} that is neither ${NAME} nor ${NAME:-default}: write $$ for a dollar"
		}
		if strings.Contains(fallback, "${") {
			return "", "has a default that is a variable itself, which is not supported: write its value"
		}
		val, set := d.opts.Getenv(name)
		switch {
		case hasFallback && val == "":
			val = strings.ReplaceAll(fallback, "$$", "$")
		case !set:
			return "", unsetVariable(name, hidden) + ", or give it a default: ${NAME:-default}"
		}
		// One long variable, named often enough, would fill the memory from a small file.
		if d.expanded += len(val); d.expanded > maxFile {
			return "", fmt.Sprintf("expands to too much: all variables together may give %v", Size(maxFile))
		}
		b.WriteString(val)
		text = after
	}
}

func unsetVariable(name string, hidden bool) string {
	if hidden && (!shownName.MatchString(name) || len(name) > 40) {
		return "names an environment variable that is not set: set it"
	}
	return "the environment variable " + shorten(name) + " is not set: set it"
}
