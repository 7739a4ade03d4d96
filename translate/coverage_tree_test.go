package translate

import (
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// tree is a JSON document that can be taken apart member by member, while each
// part remembers where it stood at first.
type tree struct {
	path  string // in the document as it was
	key   string // of a member of an object
	raw   string // of a scalar
	open  byte   // '{' or '[' of what has children
	child []*tree
}

func parseTree(t testing.TB, doc string) *tree {
	t.Helper()
	if !gjson.Valid(doc) {
		t.Fatalf("not JSON: %s", doc)
	}
	return newTree("", gjson.Parse(doc))
}

func newTree(path string, v gjson.Result) *tree {
	n := &tree{path: path, raw: v.Raw}
	if !v.IsObject() && !v.IsArray() {
		return n
	}
	n.open = v.Raw[0]
	v.ForEach(func(k, c gjson.Result) bool {
		at := path + "[" + strconv.Itoa(len(n.child)) + "]"
		if n.open == '{' {
			if at = k.String(); path != "" {
				at = path + "." + at
			}
		}
		m := newTree(at, c)
		if n.open == '{' {
			m.key = k.String()
		}
		n.child = append(n.child, m)
		return true
	})
	return n
}

// String is the document.
func (n *tree) String() string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

func (n *tree) write(b *strings.Builder) {
	if n.open == 0 {
		b.WriteString(n.raw)
		return
	}
	b.WriteByte(n.open)
	for i, c := range n.child {
		if i > 0 {
			b.WriteByte(',')
		}
		if n.open == '{' {
			b.WriteString(quote(c.key) + ":")
		}
		c.write(b)
	}
	b.WriteByte(n.open + 2) // } and ] in ASCII
}

// at finds what stands at a path of the document as it is now, or the nearest
// thing above it, with what is left of the path.
func (n *tree) at(path string) (found, parent *tree, rest string) {
	found = n
	for path != "" {
		var next *tree
		if path[0] == '[' {
			index, rest, _ := strings.Cut(path[1:], "]")
			i, err := strconv.Atoi(index)
			if err != nil || found.open != '[' || i >= len(found.child) {
				return found, parent, path
			}
			next, path = found.child[i], rest
		} else {
			path = strings.TrimPrefix(path, ".")
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			for _, c := range found.child {
				if found.open == '{' && c.key == path[:end] {
					next = c
				}
			}
			if next == nil {
				return found, parent, path
			}
			path = path[end:]
		}
		parent, found = found, next
	}
	return found, parent, ""
}

// remove takes a child out.
func (n *tree) remove(c *tree) {
	for i := range n.child {
		if n.child[i] == c {
			n.child = append(n.child[:i:i], n.child[i+1:]...)
			return
		}
	}
}

// each calls fn for every part below n, and with what holds it.
func (n *tree) each(fn func(parent, c *tree)) {
	for _, c := range n.child {
		fn(n, c)
		c.each(fn)
	}
}

// under reports whether path is a part of what stands at above.
func under(path, above string) bool {
	rest, ok := strings.CutPrefix(path, above)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
