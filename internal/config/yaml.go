package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// maxFile bounds every file that is read.
	maxFile = 1 << 20
	// maxProblems bounds how many errors are told, and how many warnings.
	maxProblems = 200
)

// decoder holds what one reading of a configuration shares. The tree of nodes is walked by hand, because the library's
// own strict mode stops at the first kind of mistake and knows no paths.
type decoder struct {
	file     string
	opts     Options
	literal  bool   // text stands for itself: ${NAME} is not expanded
	secret   bool   // nothing of the file may be quoted
	empty    string // what to say of an empty file; "": what a configuration needs
	expanded int    // bytes that came out of expansions so far
	problems []Problem
	count    [2]int     // problems found of each severity, told or not
	subs     []*decoder // of files that this one names
	keyFiles []string   // files that keys are in, whether they could be read or not
}

// errors is how many errors were found, those in further files included.
func (d *decoder) errors() int {
	n := d.count[Error]
	for _, sub := range d.subs {
		n += sub.errors()
	}
	return n
}

// failed reports whether something was found wrong with a value or within it.
func (d *decoder) failed(v value) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool {
		rest, ok := strings.CutPrefix(p.Path, v.path)
		return ok && p.Severity == Error && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// value is a node of the file and where it stands.
type value struct {
	d      *decoder
	node   *yaml.Node
	path   string
	hidden bool // a secret belongs here: what is written must not be quoted
}

// fields are the keys that a mapping may have and what reads each; nil is a setting of a later version.
type fields map[string]func(value)

// parseYAML makes the tree of a file, or problems.
func (d *decoder) parseYAML(data []byte) (root *yaml.Node) {
	if len(data) > maxFile {
		d.add(Error, 1, "", "is larger than "+Size(maxFile).String()+", which cannot be a configuration")
		return nil
	}
	if !utf8.Valid(data) {
		d.add(Error, 1+bytes.Count(data[:validPrefix(data)], []byte("\n")), "", "is not UTF-8 text")
		return nil
	}
	// The library has been made to panic by hostile input before (CVE-2022-28948); a refusal is as good.
	defer func() {
		if recover() != nil {
			d.add(Error, 1, "", "is not valid YAML")
			root = nil
		}
	}()
	in := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := in.Decode(&doc); errors.Is(err, io.EOF) {
		d.add(Error, 1, "", d.emptyFile())
		return nil
	} else if err != nil {
		d.syntax(data, err)
		return nil
	}
	if err := in.Decode(&second); err == nil {
		d.add(Error, max(second.Line, 1), "", "holds several documents: write one, without a line of --- in it")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(data, err)
		return nil
	}
	if len(doc.Content) == 0 {
		d.add(Error, 1, "", d.emptyFile())
		return nil
	}
	d.refuseIndirection(doc.Content[0])
	return doc.Content[0]
}

func (d *decoder) emptyFile() string {
	if d.empty != "" {
		return d.empty
	}
	return "is empty: write at least one of `agents`"
}

func validPrefix(data []byte) int {
	n := 0
	for n < len(data) {
		r, size := utf8.DecodeRune(data[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

var (
	syntaxLine    = regexp.MustCompile(`^yaml: line (\d+): `)
	unknownAnchor = regexp.MustCompile(`^yaml: unknown anchor '(.*)' referenced$`)
)

// syntax tells of a file that is no YAML.
func (d *decoder) syntax(data []byte, err error) {
	line, text := 1, err.Error()
	if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		// The library does not say where, and the name may be the rest of a password that needed quotes.
		if at := bytes.Index(data, []byte("*"+m[1])); at >= 0 {
			line += bytes.Count(data[:at], []byte("\n"))
		}
		d.add(Error, line, "", aliasMessage)
		return
	}
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	d.add(Error, max(line, 1), "", "is not valid YAML: "+strings.TrimPrefix(text, "yaml: "))
}

const aliasMessage = "anchors (&) and aliases (*) are not supported: write the value out, and put text that begins so in quotes"

// refuseIndirection reports what makes a file mean more than it shows: anchors, aliases (which can also make a small
// file expand without end) and tags.
func (d *decoder) refuseIndirection(n *yaml.Node) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.add(Error, n.Line, "", aliasMessage)
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.add(Error, n.Line, "", "tags (!) are not supported: leave the tag out, and put text that begins so in quotes")
	}
	if n.Kind != yaml.AliasNode {
		for _, c := range n.Content {
			d.refuseIndirection(c)
		}
	}
}

func (d *decoder) add(s Severity, line int, path, message string) {
	d.count[s]++
	if d.count[s] <= maxProblems {
		d.problems = append(d.problems, Problem{Severity: s, File: d.file, Line: line, Path: path, Message: message})
	}
}

// finish is all problems, in the order of the file.
func (d *decoder) finish() []Problem {
	sortProblems(d.problems)
	for s, n := range d.count {
		if n > maxProblems {
			last := 0
			if len(d.problems) > 0 {
				last = d.problems[len(d.problems)-1].Line
			}
			d.problems = append(d.problems, Problem{Severity: Severity(s), File: d.file, Line: last,
				Message: fmt.Sprintf("and %d more of them", n-maxProblems)})
		}
	}
	problems := d.problems
	for _, sub := range d.subs {
		problems = append(problems, sub.finish()...)
	}
	return problems
}

func (v value) problem(format string, args ...any) {
	v.d.add(Error, v.node.Line, v.path, fmt.Sprintf(format, args...))
}

func (v value) warn(format string, args ...any) {
	v.d.add(Warning, v.node.Line, v.path, fmt.Sprintf(format, args...))
}

// wants reports a value of the wrong kind.
func (v value) wants(what string) { v.problem("wants %s, not %s", what, v.kind()) }

// kind is what was written, in words.
func (v value) kind() string {
	switch v.node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch v.node.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	}
	return "text"
}

// reported says that the node stands for something that cannot be read and was reported already.
func (v value) reported() bool { return v.node.Kind == yaml.AliasNode }

func (v value) isNull() bool { return v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!null" }

// shown is the value as written in the file, for a message: before its expansion, quoted, and not too long.
func (v value) shown() string {
	if v.hidden {
		return "what is written"
	}
	return strconv.Quote(shorten(v.node.Value))
}

func shorten(s string) string {
	const most = 60
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,60}$`)

// child is where a key's value stands.
func (v value) child(key string, node *yaml.Node) value {
	switch {
	case !plainKey.MatchString(key):
		key = "[" + strconv.Quote(shorten(key)) + "]"
	case v.path != "":
		key = "." + key
	}
	return value{d: v.d, node: node, path: v.path + key, hidden: v.hidden}
}

// entries are the pairs of a mapping, in their order. An empty value counts as an empty mapping: that is what is left of
// a section whose lines are all commented out.
func (v value) entries(each func(key string, at value)) bool {
	if v.reported() {
		return false
	}
	if v.isNull() {
		return true
	}
	if v.node.Kind != yaml.MappingNode {
		v.wants("a mapping")
		return false
	}
	lines := make(map[string]int, len(v.node.Content)/2)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key, content := v.node.Content[i], v.node.Content[i+1]
		if key.Kind == yaml.AliasNode {
			continue
		}
		if key.Kind != yaml.ScalarNode {
			v.d.add(Error, key.Line, v.path, "wants names as keys, not a list or a mapping")
			continue
		}
		at := v.child(key.Value, content)
		at.node = withLine(content, key)
		if first, again := lines[key.Value]; again {
			at.node = key
			if v.hidden {
				at.path = v.path
			}
			at.problem("is written twice: leave one out; the first is on line %d", first)
			continue
		}
		lines[key.Value] = key.Line
		each(key.Value, at)
	}
	return true
}

// withLine is a node that tells the line of its key: that of an empty value may be the next key's.
func withLine(content, key *yaml.Node) *yaml.Node {
	if content.Kind == yaml.AliasNode || content.Line == key.Line {
		return content
	}
	n := *content
	n.Line = key.Line
	return &n
}

// mapping reads a mapping of known keys and returns what was written. It is nil where there is no mapping.
func (v value) mapping(known fields) map[string]value {
	written := make(map[string]value)
	ok := v.entries(func(key string, at value) {
		read, found := known[key]
		switch {
		case !found:
			if v.hidden {
				at.path = v.path
			}
			at.problem("%s", unknownKey(key, known))
		case read == nil:
			at.problem("not supported by this version")
		default:
			written[key] = at
			read(at)
		}
	})
	if !ok {
		return nil
	}
	return written
}

func unknownKey(key string, known fields) string {
	names := slices.Sorted(maps.Keys(known))
	if near := nearest(key, names); near != "" {
		return fmt.Sprintf("unknown key, did you mean %q?", near)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return known[n] == nil })
	return "unknown key; known here: " + strings.Join(names, ", ")
}

// list reads a list; what says what is expected of each entry.
func (v value) list(what string, each func(i int, at value)) bool {
	if v.reported() {
		return false
	}
	if v.node.Kind != yaml.SequenceNode {
		v.wants("a list of " + what)
		return false
	}
	for i, n := range v.node.Content {
		each(i, value{d: v.d, node: n, path: v.path + "[" + strconv.Itoa(i) + "]", hidden: v.hidden})
	}
	return true
}

// scalar is the expanded text of a single value, whatever its type.
func (v value) scalar(want string) (string, bool) {
	if v.reported() {
		return "", false
	}
	if v.node.Kind != yaml.ScalarNode || v.isNull() {
		v.wants(want)
		return "", false
	}
	if v.d.literal {
		return v.node.Value, true
	}
	text, problem := v.d.expand(v.node.Value, v.hidden)
	if problem != "" {
		v.problem("%s", problem)
		return "", false
	}
	return text, true
}

// text is a single value that was written as text.
func (v value) text(want string) (string, bool) {
	if v.node.Kind == yaml.ScalarNode {
		switch v.node.ShortTag() {
		case "!!int", "!!float", "!!bool":
			v.problem("wants %s, not %s: put it in quotes if it is meant", want, v.kind())
			return "", false
		}
	}
	return v.scalar(want)
}

// nearest is the known name that a word is probably a misspelling of, or nothing.
func nearest(word string, known []string) string {
	fold := strings.NewReplacer("-", "_", " ", "_")
	word = fold.Replace(strings.ToLower(word))
	if len(word) > 64 {
		return ""
	}
	best, least := "", 1+max(1, min(len(word)/3, 3))
	for _, k := range known {
		if d := distance(word, fold.Replace(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is how many letters must be added, removed or changed to make one word of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
