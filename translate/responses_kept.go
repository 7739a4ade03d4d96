package translate

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// KeptFace is implemented by a Face whose clients can fetch what was kept.
type KeptFace interface {
	// AppendResponse writes a kept answer: object as it was kept, with its output, of which only
	// what include names is shown of the parts that are left out by default.
	AppendResponse(dst, object []byte, output string, include []string) []byte
	// AppendDeleted says that what an id meant is gone. object is what it was.
	AppendDeleted(dst []byte, id, object string) []byte
	// AppendItems writes a page of items, raw ones.
	AppendItems(dst []byte, items []string, more bool, include []string) []byte
	// AppendItem writes an item.
	AppendItem(dst []byte, item string, include []string) []byte
	// AppendConversation writes a conversation object; metadata is raw JSON.
	AppendConversation(dst []byte, id string, created int64, metadata string) []byte
	// ReadConversation reads the body of a request that makes or changes a conversation, or adds items
	// to one: the items as they are kept, with ids by id where they lack one, and the metadata, raw, "" if absent.
	ReadConversation(body []byte, id func(prefix string, n int) string) (items []string, metadata string, err *Error)
}

// maxConversationItems is how many items may be given to a conversation at a time.
const maxConversationItems = 20

// AppendResponse implements KeptFace.
func (responsesFace) AppendResponse(dst, object []byte, output string, include []string) []byte {
	s := newSplice(object)
	b := []byte{'['}
	gjson.Parse("[" + output + "]").ForEach(func(_, item gjson.Result) bool {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = appendShown(b, item, include)
		return true
	})
	s.set("output", string(append(b, ']')))
	return s.append(dst)
}

// appendShown is an item without what is only shown when asked for.
func appendShown(dst []byte, item gjson.Result, include []string) []byte {
	if respText(item.Get("type")) == "reasoning" && !slices.Contains(include, "reasoning.encrypted_content") {
		return append(dst, withoutMember(item, "encrypted_content")...)
	}
	return append(dst, item.Raw...)
}

// AppendDeleted implements KeptFace.
func (responsesFace) AppendDeleted(dst []byte, id, object string) []byte {
	dst = append(dst, `{"id":`...)
	dst = jsonx.AppendStringS(dst, id)
	dst = append(append(append(dst, `,"object":"`...), object...), '"')
	return append(dst, `,"deleted":true}`...)
}

// AppendItems implements KeptFace.
func (responsesFace) AppendItems(dst []byte, items []string, more bool, include []string) []byte {
	dst = append(dst, `{"object":"list","data":[`...)
	first, last := "null", "null"
	for i, raw := range items {
		item := gjson.Parse(raw)
		if i > 0 {
			dst = append(dst, ',')
		} else {
			first = firstOf(item.Get("id").Raw, "null")
		}
		last = firstOf(item.Get("id").Raw, "null")
		dst = appendShown(dst, item, include)
	}
	dst = append(append(dst, `],"first_id":`...), first...)
	dst = append(append(dst, `,"last_id":`...), last...)
	return append(strconv.AppendBool(append(dst, `,"has_more":`...), more), '}')
}

// AppendItem implements KeptFace.
func (responsesFace) AppendItem(dst []byte, item string, include []string) []byte {
	return appendShown(dst, gjson.Parse(item), include)
}

// AppendConversation implements KeptFace.
func (responsesFace) AppendConversation(dst []byte, id string, created int64, metadata string) []byte {
	dst = append(dst, `{"id":`...)
	dst = jsonx.AppendStringS(dst, id)
	dst = append(dst, `,"object":"conversation","created_at":`...)
	dst = strconv.AppendInt(dst, created, 10)
	return append(append(append(dst, `,"metadata":`...), firstOf(metadata, "{}")...), '}')
}

// ReadConversation implements KeptFace.
func (responsesFace) ReadConversation(body []byte, id func(prefix string, n int) string) (items []string, metadata string, err *Error) {
	doc := gjson.Parse(viewString(body))
	if !doc.IsObject() {
		return nil, "", Invalid(Path{I: -1, J: -1}, "The request body must be a JSON object.")
	}
	if m := doc.Get("metadata"); m.Type != gjson.Null {
		if err := respMetadata(m); err != nil {
			return nil, "", err
		}
		metadata = m.Raw
	}
	list := doc.Get("items")
	switch {
	case list.Type == gjson.Null:
		return nil, metadata, nil
	case !list.IsArray():
		return nil, "", Invalid(At("items"), "'items' must be an array of items.")
	}
	// What cannot be read could never be gone on from.
	d := respRequest{r: &Request{Face: &responsesProtocol}}
	list.ForEach(func(_, item gjson.Result) bool {
		n := len(items)
		at := AtIndex("items", n)
		switch {
		case n == maxConversationItems:
			err = Invalid(At("items"), "'items' must have %d items at most.", maxConversationItems)
		case item.IsObject() && respRefers(item, item.Get("type")):
			err = Invalid(at, "'%s' must be an item itself: a reference cannot be added.", at)
		default:
			err = d.item(item, at)
		}
		if err == nil {
			items = append(items, string(appendRespKept(nil, item.Raw, func(prefix string) string { return id(prefix, n) })))
		}
		return err == nil
	})
	return items, metadata, err
}

// respMetadata checks metadata: at most 16 texts under keys of 64 characters, of 512 characters each.
func respMetadata(m gjson.Result) *Error {
	at := At("metadata")
	if !m.IsObject() {
		return mistyped(at, respObject)
	}
	n := 0
	var err *Error
	m.ForEach(func(k, v gjson.Result) bool {
		n++
		switch {
		case n > 16:
			err = Invalid(at, "'metadata' must have 16 members at most.")
		case len([]rune(k.String())) > 64:
			err = Invalid(at, "The keys of 'metadata' must have 64 characters at most.")
		case v.Type != gjson.String:
			err = Invalid(at, "The values of 'metadata' must be strings.")
		case len([]rune(v.String())) > 512:
			err = Invalid(at, "The values of 'metadata' must have 512 characters at most.")
		}
		return err == nil
	})
	return err
}

// Page is what a query asks for of a list.
type Page struct {
	Limit         int
	Ascending     bool
	After, Before string
	Include       []string
}

// ParsePage reads limit (1 to 100, 20 by default), order (asc or desc, desc by default), after, before and
// include, which may be repeated or written include[].
func ParsePage(query string) (Page, *Error) {
	p := Page{Limit: 20}
	values, err := url.ParseQuery(query)
	if err != nil {
		return p, Invalid(Path{I: -1, J: -1}, "The query cannot be read.")
	}
	if s := values.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 100 {
			return p, Invalid(At("limit"), "'limit' must be a whole number from 1 to 100.")
		}
		p.Limit = n
	}
	switch values.Get("order") {
	case "", "desc":
	case "asc":
		p.Ascending = true
	default:
		return p, Invalid(At("order"), "'order' must be asc or desc.")
	}
	p.After, p.Before = values.Get("after"), values.Get("before")
	p.Include = Includes(values)
	return p, nil
}

// Includes are the parts that a query wants to be shown.
func Includes(values url.Values) []string {
	var list []string
	for key, words := range values {
		if name, _, _ := strings.Cut(key, "["); name == "include" {
			list = append(list, words...)
		}
	}
	return list
}
