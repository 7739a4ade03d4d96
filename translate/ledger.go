package translate

import (
	"slices"
	"strconv"
	"strings"
)

// Ledger names what could not be carried over. Entries are paths of fields we
// know; the client's own keys are only counted, so that nothing a client made
// up reaches a header or a log.
type Ledger struct {
	dropped []string
	unknown int
	more    int // entries beyond maxEntries, which are only counted
}

// maxEntries bounds the ledger of one request: beyond it entries are counted,
// so that a request made of nothing but losses costs no more than another.
const maxEntries = 256

// Drop notes the field at p. What the configuration filled in is not the client's
// loss: CheckDefault tells the operator of it.
func (l *Ledger) Drop(p Path) {
	if strings.HasPrefix(p.Base, "defaults.") {
		return
	}
	if len(l.dropped) >= maxEntries {
		l.more++
		return
	}
	l.Note(p.String())
}

// Note notes an entry by its name, once.
func (l *Ledger) Note(name string) {
	if slices.Contains(l.dropped, name) {
		return
	}
	if len(l.dropped) >= maxEntries {
		l.more++
		return
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

// Names lists the entries; unknown fields as unknown(n), entries that were only
// counted as more(n).
func (l *Ledger) Names() []string {
	names := append([]string(nil), l.dropped...)
	if l.unknown > 0 {
		names = append(names, "unknown("+strconv.Itoa(l.unknown)+")")
	}
	if l.more > 0 {
		names = append(names, "more("+strconv.Itoa(l.more)+")")
	}
	return names
}

// Header is the value of Dragoman-Dropped: the entries, as many as fit into
// 1 KiB, and the number of the rest.
func (l *Ledger) Header() string {
	const limit = 1000
	var b strings.Builder
	add := func(n string) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(n)
	}
	names, more := l.dropped, l.more
	for i, n := range names {
		if b.Len()+len(n) > limit {
			more += len(names) - i
			break
		}
		add(n)
	}
	if l.unknown > 0 {
		add("unknown(" + strconv.Itoa(l.unknown) + ")")
	}
	if more > 0 {
		add("more(" + strconv.Itoa(more) + ")")
	}
	return b.String()
}
