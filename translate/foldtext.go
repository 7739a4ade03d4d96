package translate

// foldedText is a conversation put into one text, for a backend that takes
// nothing else.
type foldedText struct {
	// Text is the user's words as they are if the request is a single user
	// message, else one paragraph a turn, each under its speaker: "System: …",
	// "User: …", "Assistant: …", "Assistant called get_weather: {…}",
	// "Result of get_weather: …".
	Text string
	// Images are the images of all turns in order. The text does not mention
	// them; a backend that has no place for them refuses Images[0].Path.
	Images []Block
	// Refused is the first block that no text can stand for (a file, audio),
	// nil if there is none. The caller says that its path is not supported.
	Refused *Block
	// History is the first turn beyond the one user message, nil if there is
	// none: what options.history: refuse names.
	History *Turn
}

// foldHistory puts the turns of r into one text. Earlier reasoning goes to the
// ledger: it was never meant for anybody's eyes but the model's.
func foldHistory(r *Request) foldedText {
	var f foldedText
	if len(r.Turns) == 0 {
		return f
	}
	last := len(r.Turns) - 1
	for i := range r.Turns {
		if i < last || r.Turns[i].Role != RoleUser {
			f.History = &r.Turns[i]
			break
		}
	}
	var b []byte
	for i := range r.Turns {
		b = f.turn(b, r, &r.Turns[i])
	}
	f.Text = string(b)
	return f
}

func (f *foldedText) turn(dst []byte, r *Request, t *Turn) []byte {
	if f.History == nil && t.Name != "" {
		r.Ledger.Drop(t.Path.In("name")) // the words stand without their speaker
	}
	said := false // the speaker's paragraph is open
	var prev BlockType
	for i := range t.Blocks {
		b := &t.Blocks[i]
		switch b.Type {
		case BlockReasoning:
			r.Ledger.Drop(b.Path)
		case BlockImage:
			if t.Role == RoleAssistant && b.URL != "" && !isDataURL(b.URL) {
				// What the agent itself showed earlier is a link.
				dst = paragraph(dst)
				if !said {
					dst = appendSpeaker(dst, t)
				}
				said, prev = true, b.Type
				dst = RenderBlock(dst, b)
				continue
			}
			f.Images = append(f.Images, *b)
		case BlockFile, BlockAudio:
			if f.Refused == nil {
				f.Refused = b
			}
		case BlockToolCall:
			dst = paragraph(dst)
			dst = append(dst, "Assistant"...)
			if name := firstOf(t.Name, t.Author); name != "" {
				dst = append(append(append(dst, " ("...), name...), ')')
			}
			dst = append(append(dst, " called "...), b.Name...)
			dst = append(append(dst, ": "...), b.Text...)
			said = false
		case BlockToolResult:
			dst = paragraph(dst)
			dst = append(dst, "Result of "...)
			dst = append(dst, firstOf(b.Name, callName(r, b.CallID), "the tool")...)
			if b.IsError {
				dst = append(dst, " (an error)"...)
			}
			dst = append(append(dst, ": "...), b.Text...)
			for j := range b.Parts {
				if j > 0 && b.Parts[j-1].Type == BlockText {
					dst = append(dst, '\n')
				}
				dst = f.part(dst, &b.Parts[j])
			}
			said = false
		case BlockStatus, BlockStep, BlockData:
			r.Ledger.Drop(b.Path)
		default:
			switch {
			case said && (b.Type != BlockText || prev != BlockText):
				dst = paragraph(dst)
			case said && t.Role != RoleAssistant:
				dst = append(dst, '\n') // parts that were told apart
			case !said && f.History != nil:
				dst = paragraph(dst)
				dst = appendSpeaker(dst, t)
			}
			said, prev = true, b.Type
			if len(b.Annotations) > 0 {
				r.Ledger.Drop(r.annotationsAt(b))
			}
			dst = RenderBlock(dst, b)
		}
	}
	return dst
}

func (f *foldedText) part(dst []byte, b *Block) []byte {
	switch b.Type {
	case BlockImage:
		f.Images = append(f.Images, *b)
	case BlockFile, BlockAudio:
		if f.Refused == nil {
			f.Refused = b
		}
	default:
		dst = RenderBlock(dst, b)
	}
	return dst
}

func appendSpeaker(dst []byte, t *Turn) []byte {
	switch t.Role {
	case RoleSystem, RoleDeveloper:
		dst = append(dst, "System"...)
	case RoleAssistant:
		dst = append(dst, "Assistant"...)
	case RoleTool:
		dst = append(dst, "Tool"...)
	default:
		dst = append(dst, "User"...)
	}
	if name := firstOf(t.Name, t.Author); name != "" {
		dst = append(append(append(dst, " ("...), name...), ')')
	}
	return append(dst, ": "...)
}

// paragraph ends the paragraph before with a blank line.
func paragraph(dst []byte) []byte {
	if len(dst) > 0 {
		dst = append(dst, "\n\n"...)
	}
	return dst
}

// callName finds the tool's name of a call that the request answers. The calls
// are indexed when they are first asked for.
func callName(r *Request, callID string) string {
	if r.callNames == nil {
		r.callNames = map[string]string{}
		for i := range r.Turns {
			for j := range r.Turns[i].Blocks {
				if b := &r.Turns[i].Blocks[j]; b.Type == BlockToolCall {
					r.callNames[b.CallID] = b.Name
				}
			}
		}
	}
	return r.callNames[callID]
}
