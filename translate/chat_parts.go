package translate

import (
	"math"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// contentPart is a part of a chunk's content, or neighbours of one type: a text
// of the decoder's joined ones, or an image.
type contentPart struct {
	typ      BlockType
	from, to int
	raw      []byte // of an image: its address, or an object with a url
}

// parseContent reads the content of a delta or message: a string; or parts, or
// one part (Mistral's thinking is parts, Cycls' components are objects).
func (d *completionDecoder) parseContent() {
	j, c := &d.dec, &d.c
	switch j.Kind() {
	case jsonx.String:
		c.text = d.string()
	case jsonx.Object:
		d.joined = d.joined[:0]
		d.parsePart()
	case jsonx.Array:
		d.joined = d.joined[:0]
		j.Array()
		for j.More() {
			d.parsePart()
		}
	case jsonx.Null:
		j.Skip()
	default:
		c.lost = true
		j.Skip()
	}
}

// parsePart takes the texts and the image of one part.
func (d *completionDecoder) parsePart() {
	j, c := &d.dec, &d.c
	if j.Kind() == jsonx.String {
		d.part(BlockText)
		return
	}
	lost := true
	if j.Object() {
		for k, ok := j.Key(); ok; k, ok = j.Key() {
			switch string(k) {
			case "text":
				if d.part(BlockText) {
					lost = false
				}
			case "refusal":
				if d.part(BlockRefusal) {
					lost = false
				}
			case "image_url":
				if k := j.Kind(); k == jsonx.Object || k == jsonx.String {
					c.parts, lost = append(c.parts, contentPart{typ: BlockImage, raw: j.Raw()}), false
				}
			case "thinking", "reasoning":
				lost = false
				if j.Kind() != jsonx.Array {
					d.part(BlockReasoning)
					continue
				}
				j.Array()
				for j.More() {
					if !j.Object() {
						continue
					}
					for k, ok := j.Key(); ok; k, ok = j.Key() {
						if string(k) == "text" {
							d.part(BlockReasoning)
						}
					}
				}
			}
		}
	}
	c.lost = c.lost || lost
}

// part consumes a value and takes it as text of the type, if it is a string.
func (d *completionDecoder) part(t BlockType) bool {
	s, ok := d.dec.Str()
	if len(s) == 0 {
		return ok
	}
	c := &d.c
	if n := len(c.parts); n == 0 || c.parts[n-1].typ != t {
		c.parts = append(c.parts, contentPart{typ: t, from: len(d.joined)})
	}
	d.joined = append(d.joined, s...)
	c.parts[len(c.parts)-1].to = len(d.joined)
	return true
}

// sayParts tells the parts of the content in their order, and behind each text
// the citations of it. It reports whether it told any text, and so them all.
func (d *completionDecoder) sayParts(out Sink) bool {
	c := &d.c
	repeated := [numBlockTypes]bool{}
	if c.whole {
		repeated = d.said
	}
	// Beside what the message says in members of its own.
	repeated[BlockReasoning] = repeated[BlockReasoning] || len(c.reasoning.b) > 0
	repeated[BlockRefusal] = repeated[BlockRefusal] || len(c.refusal.b) > 0
	last := len(c.parts) - 1
	for last >= 0 && c.parts[last].typ != BlockText {
		last--
	}
	from, logprobs := math.MinInt, c.logprobs
	for i := range c.parts {
		p := &c.parts[i]
		if repeated[p.typ] {
			continue
		}
		text := chunkText{b: d.joined[p.from:p.to]}
		switch p.typ {
		case BlockImage:
			d.showImage(out, p.raw)
		case BlockText:
			d.say(out, BlockText, text, logprobs)
			logprobs = nil // all of them stand with the first
			to := d.runes
			if i == last {
				to = math.MaxInt
			}
			if c.annotations != nil {
				d.annotate(out, from, to)
			}
			from = to
		case BlockRefusal:
			d.say(out, BlockRefusal, text, c.refusalLogprobs)
		default:
			d.say(out, p.typ, text, nil)
		}
	}
	return from == math.MaxInt
}

// showImage tells an image, which is whole.
func (d *completionDecoder) showImage(out Sink, raw []byte) {
	v := gjson.Parse(viewString(raw))
	if i := v.Get("image_url"); i.Exists() {
		v = i
	}
	if v.IsObject() {
		v = v.Get("url")
	}
	if v.Type != gjson.String || v.Str == "" {
		d.s.Ledger.Note("content")
		return
	}
	d.closeFor(out)
	d.said[BlockImage] = true
	d.block = Block{Type: BlockImage, URL: v.Str}
	d.ev = Event{Kind: EventBlockStart, Index: d.next, Block: &d.block}
	out.Event(&d.ev)
	d.end(out, d.next, whole)
	d.next++
}
