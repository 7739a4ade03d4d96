package translate

import (
	"bytes"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// chunkShape is a chunk without its text. Nearly every chunk of a stream says
// one thing, in one string, and repeats all other bytes of the chunk before it
// but those of OpenAI's obfuscation: so that comparing bytes is as good as
// parsing them, and several times as fast.
type chunkShape struct {
	ok     bool
	says   BlockType // text, reasoning or tool call
	tool   toolDelta // of a tool call: which one
	padded bool

	before []byte // ends with the quote before the text
	after  []byte // begins with the quote behind it; ends with that before the obfuscation
	end    []byte // begins with the quote behind the obfuscation

	scratch []byte
}

// text returns the text of a chunk that is of the shape; nil if it is not, or
// if the parser has to look at its escapes. It is valid until the next call.
func (s *chunkShape) text(data []byte) []byte {
	if !bytes.HasPrefix(data, s.before) {
		return nil
	}
	rest := data[len(s.before):]
	n, escapes := 0, false
	for n < len(rest) && rest[n] != '"' {
		switch {
		case rest[n] == '\\':
			escapes = true
			n++
		case rest[n] < 0x20:
			return nil
		}
		n++
	}
	if n > len(rest) {
		return nil
	}
	tail := rest[n:]
	if !s.padded {
		if !bytes.Equal(tail, s.after) {
			return nil
		}
	} else {
		if len(tail) < len(s.after)+len(s.end) || !bytes.HasPrefix(tail, s.after) || !bytes.HasSuffix(tail, s.end) {
			return nil
		}
		for _, c := range tail[len(s.after) : len(tail)-len(s.end)] {
			if c < 0x20 || c == '"' || c == '\\' {
				return nil
			}
		}
	}
	if !escapes {
		return rest[:n:n]
	}
	text, ok := jsonx.Unquote(s.scratch[:0], data[len(s.before)-1:len(s.before)+n+1])
	s.scratch = text
	if !ok || bytes.HasPrefix(text, replacement) || bytes.HasSuffix(text, replacement) {
		return nil // perhaps half of a surrogate pair
	}
	return text
}

// remember takes the shape of the chunk c of data, if it has one.
func (s *chunkShape) remember(c *chunk, data []byte) {
	s.ok = false
	if c.whole || c.others || c.lost || c.audio || c.sealed || len(c.parts) > 0 || len(c.images) > 0 || c.hasUsage || c.err != nil || len(c.finish) > 0 || len(c.refusal.b) > 0 ||
		c.logprobs != nil || c.refusalLogprobs != nil || c.annotations != nil || c.choices != 1 {
		return
	}
	var t *chunkText
	says := 0
	if len(c.text.b) > 0 {
		says++
		t, s.says = &c.text, BlockText
	}
	if len(c.reasoning.b) > 0 {
		says++
		t, s.says = &c.reasoning, BlockReasoning
	}
	if len(c.tools) > 0 {
		says += len(c.tools)
		tool := &c.tools[0]
		if len(tool.id) > 0 || len(tool.name) > 0 {
			return
		}
		t, s.says = &tool.args, BlockToolCall
		s.tool = toolDelta{index: tool.index, custom: tool.custom}
	}
	if says != 1 || t.to <= t.from || t.lead != 0 || t.tail != 0 {
		return
	}
	s.padded = c.pad.to > 0
	end := len(data)
	if s.padded {
		if end = c.pad.from; end <= t.to {
			return
		}
		s.end = append(s.end[:0], data[c.pad.to:]...)
	}
	s.before = append(s.before[:0], data[:t.from]...)
	s.after = append(s.after[:0], data[t.to:end]...)
	s.ok = true
}
