package translate

import (
	"bytes"
	"strings"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// minFence is the length of a code fence: one more than people write, so that
// code with fences of its own does not close it.
const minFence = 4

// RenderBlock appends b as Markdown, for a protocol that has no word for it.
// Text, refusals and reasoning are appended as they are, other content (code,
// tables, callouts, images, files) is rendered; what is not content leaves no
// trace.
func RenderBlock(dst []byte, b *Block) []byte {
	var m markdown
	dst = m.start(dst, b)
	switch b.Type {
	case BlockReasoning:
		return append(dst, b.Text...)
	case BlockTable:
		for _, row := range b.Rows {
			dst = m.delta(dst, viewBytes(row))
		}
	case BlockText, BlockRefusal, BlockCode, BlockCallout:
		dst = m.delta(dst, viewBytes(b.Text))
	}
	return m.end(dst)
}

// markdown renders one block of content as it arrives.
type markdown struct {
	typ BlockType

	// Code: the fence, and the beginning of a line that may turn out to close
	// it.
	fence  int
	atLine bool
	spaces int
	ticks  int

	// Table: the columns of the header, 0 until it is written.
	cols int
	dec  jsonx.Dec

	// Callout: what stands before the next text.
	headed  bool
	written bool
	breaks  int
}

func (m *markdown) start(dst []byte, b *Block) []byte {
	m.typ, m.fence, m.cols = b.Type, minFence, 0
	m.headed, m.written, m.breaks = false, false, 0
	switch b.Type {
	case BlockCode:
		if n := longestTicks(b.Text) + 1; n > m.fence {
			m.fence = n
		}
		dst = appendTicks(dst, m.fence)
		dst = appendLanguage(dst, b.Language)
		dst = append(dst, '\n')
		m.atLine, m.spaces, m.ticks = true, 0, 0
	case BlockTable:
		if b.Headers != "" {
			dst = m.header(dst, viewBytes(b.Headers))
		}
	case BlockCallout:
		dst = m.heading(dst, b)
	case BlockImage:
		dst = appendImage(dst, b)
	case BlockFile:
		dst = appendFile(dst, b)
	}
	return dst
}

func (m *markdown) delta(dst, p []byte) []byte {
	switch m.typ {
	case BlockText, BlockRefusal:
		return append(dst, p...)
	case BlockCode:
		return m.code(dst, p)
	case BlockTable:
		return m.row(dst, p)
	case BlockCallout:
		return m.quote(dst, p)
	}
	return dst
}

func (m *markdown) end(dst []byte) []byte {
	if m.typ == BlockCode {
		if !m.atLine || m.spaces+m.ticks > 0 {
			dst = append(m.lead(dst), '\n')
		}
		dst = appendTicks(dst, m.fence)
	}
	return dst
}

// code copies code, but indents a line of backticks that would close the fence
// (CommonMark: up to three spaces and a fence at least as long).
func (m *markdown) code(dst, p []byte) []byte {
	for len(p) > 0 {
		if m.atLine {
			switch {
			case p[0] == ' ' && m.ticks == 0 && m.spaces < 3:
				m.spaces++
				p = p[1:]
				continue
			case p[0] == '`':
				m.ticks++
				p = p[1:]
				if m.ticks == m.fence {
					dst = m.lead(append(dst, "    "...))
				}
				continue
			}
			dst = m.lead(dst)
		}
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			return append(dst, p...)
		}
		dst = append(dst, p[:i+1]...)
		p = p[i+1:]
		m.atLine = true
	}
	return dst
}

// lead writes the beginning of a line that was held back.
func (m *markdown) lead(dst []byte) []byte {
	dst = append(dst, "   "[:m.spaces]...)
	dst = appendTicks(dst, m.ticks)
	m.atLine, m.spaces, m.ticks = false, 0, 0
	return dst
}

// header writes the head of a table and the line below it.
func (m *markdown) header(dst, headers []byte) []byte {
	at := len(dst)
	n := 0
	dst, n = m.cells(dst, headers, 0)
	if n == 0 {
		return dst[:at]
	}
	m.cols = n
	return appendRule(dst, n)
}

// row writes one row of a table. A table without a header gets an empty one.
func (m *markdown) row(dst, row []byte) []byte {
	if m.cols == 0 {
		m.cols = max(m.count(row), 1)
		for range m.cols {
			dst = append(dst, "|  "...)
		}
		dst = append(dst, '|')
		dst = appendRule(dst, m.cols)
	}
	dst = append(dst, '\n')
	dst, n := m.cells(dst, row, m.cols)
	if n == 0 { // an empty line would end the table
		dst = append(dst, "|  |"...)
	}
	return dst
}

// cells writes the elements of a JSON array between bars. Cells beyond the
// columns, which no reader would show, join the last one.
func (m *markdown) cells(dst, array []byte, columns int) ([]byte, int) {
	m.dec.Reset(array)
	if m.dec.Kind() != jsonx.Array {
		return append(appendCell(append(dst, "| "...), array), " |"...), 1
	}
	n := 0
	m.dec.Array()
	for m.dec.More() {
		if n > 0 && n == columns {
			dst = append(dst[:len(dst)-2], "<br>"...)
		} else {
			if n == 0 {
				dst = append(dst, '|')
			}
			dst = append(dst, ' ')
			n++
		}
		switch m.dec.Kind() {
		case jsonx.String:
			s, _ := m.dec.Str()
			dst = appendCell(dst, s)
		case jsonx.Null:
			m.dec.Skip()
		default:
			dst = appendCell(dst, m.dec.Raw())
		}
		dst = append(dst, " |"...)
	}
	return dst, n
}

func (m *markdown) count(array []byte) int {
	m.dec.Reset(array)
	n := 0
	if m.dec.Array() {
		for m.dec.More() {
			n++
		}
	}
	return n
}

func appendRule(dst []byte, columns int) []byte {
	dst = append(dst, "\n|"...)
	for range columns {
		dst = append(dst, " --- |"...)
	}
	return dst
}

// appendCell writes the text of a table's cell: bars escaped (with the
// backslashes before them), line ends as <br>.
func appendCell(dst, s []byte) []byte {
	s = bytes.TrimSpace(s)
	slashes := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch c {
		case '\\':
			slashes++
			dst = append(dst, c)
			continue
		case '|':
			for range slashes {
				dst = append(dst, '\\')
			}
			dst = append(dst, '\\', '|')
		case '\n':
			dst = append(dst, "<br>"...)
		case '\r':
			if i+1 == len(s) || s[i+1] != '\n' {
				dst = append(dst, "<br>"...)
			}
		default:
			dst = append(dst, c)
		}
		slashes = 0
	}
	return dst
}

// heading writes a callout's style and title as its bold first line.
func (m *markdown) heading(dst []byte, b *Block) []byte {
	style, title := strings.TrimSpace(b.Style), strings.TrimSpace(b.Title)
	if style == "" && title == "" {
		return dst
	}
	dst = append(dst, "> **"...)
	if style != "" {
		if c := style[0]; 'a' <= c && c <= 'z' {
			dst = append(dst, c-'a'+'A')
			style = style[1:]
		}
		dst = appendInline(dst, style, `\*`)
		if title != "" {
			dst = append(dst, ": "...)
		}
	}
	dst = appendInline(dst, title, `\*`)
	m.headed = true
	return append(dst, "**"...)
}

// quote writes a callout's text as a block quote.
func (m *markdown) quote(dst, p []byte) []byte {
	for _, c := range p {
		switch c {
		case '\r':
			continue
		case '\n':
			m.breaks++
			continue
		}
		switch {
		case !m.written && m.headed:
			dst = append(dst, "\n>\n> "...)
		case !m.written:
			dst = append(dst, "> "...)
		default:
			for range m.breaks {
				dst = append(dst, "\n> "...)
			}
		}
		m.written, m.breaks = true, 0
		dst = append(dst, c)
	}
	return dst
}

func appendImage(dst []byte, b *Block) []byte {
	dst = append(dst, "!["...)
	dst = appendInline(dst, firstOf(b.Alt, b.Name), `\[]`)
	dst = append(dst, "]("...)
	switch {
	case b.URL != "":
		dst = appendURL(dst, b.URL)
	case b.Data != "":
		dst = append(dst, "data:"...)
		dst = appendURL(dst, firstOf(b.MIME, "image/png"))
		dst = append(dst, ";base64,"...)
		dst = appendURL(dst, b.Data)
	default:
		dst = appendURL(dst, b.FileID)
	}
	dst = append(dst, ')')
	return appendCaption(dst, b.Caption)
}

// appendFile writes a link, or the name alone where there is nothing to link
// to: a file inside a data: URL would fill the page.
func appendFile(dst []byte, b *Block) []byte {
	linked := b.URL != "" && !isDataURL(b.URL)
	name := b.Name
	if name == "" && linked {
		name, _, _ = strings.Cut(b.URL, "?")
		name = name[strings.LastIndexByte(name, '/')+1:]
	}
	name = firstOf(name, b.FileID, "file")
	if linked {
		dst = append(dst, '[')
	}
	dst = appendInline(dst, name, `\[]`)
	if linked {
		dst = append(dst, "]("...)
		dst = appendURL(dst, b.URL)
		dst = append(dst, ')')
	}
	return appendCaption(dst, b.Caption)
}

func appendCaption(dst []byte, caption string) []byte {
	caption = strings.TrimSpace(caption)
	if caption == "" {
		return dst
	}
	dst = append(dst, "\n*"...)
	dst = appendInline(dst, caption, `\*`)
	return append(dst, '*')
}

// appendInline writes text on one line, the marks given escaped.
func appendInline(dst []byte, s, marks string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c < 0x20:
			c = ' '
		case strings.IndexByte(marks, c) >= 0:
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}

// appendURL writes the destination of a link: what would end it is
// percent-encoded.
func appendURL(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c == 0x7f || strings.IndexByte(`()<>\`, c) >= 0:
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// appendLanguage writes the word after a fence.
func appendLanguage(dst []byte, s string) []byte {
	for i := 0; i < len(s) && i < 64; i++ {
		if c := s[i]; c > ' ' && c < 0x7f && c != '`' {
			dst = append(dst, c)
		}
	}
	return dst
}

func appendTicks(dst []byte, n int) []byte {
	for range n {
		dst = append(dst, '`')
	}
	return dst
}

// longestTicks is the length of the longest run of backticks.
func longestTicks(s string) int {
	longest, run := 0, 0
	for i := 0; i < len(s); i++ {
		if s[i] != '`' {
			run = 0
			continue
		}
		if run++; run > longest {
			longest = run
		}
	}
	return longest
}

func isDataURL(s string) bool { return len(s) >= 5 && strings.EqualFold(s[:5], "data:") }

// isRelative reports whether a URL has no scheme.
func isRelative(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return c != ':' || i == 0
		}
	}
	return s != ""
}

// resolveURL puts a relative URL under base, where the agent's own root is
// seen by clients. Nothing is fetched and no dots are folded: a browser does
// that.
func resolveURL(base, s string) string {
	if strings.HasPrefix(s, "//") { // another host, the same scheme
		scheme, _, ok := strings.Cut(base, "//")
		if !ok {
			return s
		}
		return scheme + s
	}
	return strings.TrimRight(base, "/") + "/" + strings.TrimLeft(s, "/")
}
