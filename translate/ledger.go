package translate

import (
	"strconv"
	"strings"
)

// Ledger names what could not be carried over. Entries are paths of fields we
// know; the client's own keys are only counted, so that nothing a client made
// up reaches a header or a log.
type Ledger struct {
	dropped []string
	unknown int
}

// Drop notes the field at p.
func (l *Ledger) Drop(p Path) { l.Note(p.String()) }

// Note notes an entry by its name, once.
func (l *Ledger) Note(name string) {
	for _, d := range l.dropped {
		if d == name {
			return
		}
	}
	l.dropped = append(l.dropped, name)
}

// Unknown notes n fields that no protocol of ours knows.
func (l *Ledger) Unknown(n int) { l.unknown += n }

// Len is the number of entries.
func (l *Ledger) Len() int {
	if l.unknown > 0 {
		return len(l.dropped) + 1
	}
	return len(l.dropped)
}

// Names lists the entries; unknown fields as unknown(n).
func (l *Ledger) Names() []string {
	names := append([]string(nil), l.dropped...)
	if l.unknown > 0 {
		names = append(names, "unknown("+strconv.Itoa(l.unknown)+")")
	}
	return names
}

// Header is the value of Dragoman-Dropped: the entries, as many as fit into
// 1 KiB, and the number of the rest.
func (l *Ledger) Header() string {
	const limit = 1000
	var b strings.Builder
	names := l.Names()
	for i, n := range names {
		if b.Len()+len(n) > limit {
			b.WriteString(", more(" + strconv.Itoa(len(names)-i) + ")")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(n)
	}
	return b.String()
}
