package translate

import (
	"encoding/base64"
	"strings"

	"github.com/tidwall/gjson"
)

// decodeSwarmsImages adds img and imgs to the user turn that ends the request;
// if something else ends it, they are a turn of their own.
func decodeSwarmsImages(r *Request, img, imgs gjson.Result) *Error {
	var blocks []Block
	add := func(v gjson.Result, at Path) *Error {
		s, err := swarmsString(v, at)
		if err != nil || s == "" {
			return err
		}
		url := swarmsImageURL(s)
		if url == "" {
			return Invalid(at, "'%s' must be an http(s) URL, a data: URI or base64.", at)
		}
		blocks = append(blocks, Block{Type: BlockImage, URL: url, Path: at})
		return nil
	}
	if !swarmsAbsent(img) {
		if err := add(img, At("img")); err != nil {
			return err
		}
	}
	if !swarmsAbsent(imgs) {
		if !imgs.IsArray() {
			return Invalid(At("imgs"), "'imgs' must be a list of strings.")
		}
		var err *Error
		i := 0
		imgs.ForEach(func(_, v gjson.Result) bool {
			if err = r.room(At("imgs")); err == nil {
				err = add(v, AtIndex("imgs", i))
			}
			i++
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	if len(blocks) == 0 {
		return nil
	}
	if n := len(r.Turns); n > 0 && r.Turns[n-1].Role == RoleUser {
		r.Turns[n-1].Blocks = append(r.Turns[n-1].Blocks, blocks...)
	} else {
		r.Turns = append(r.Turns, Turn{Role: RoleUser, Path: blocks[0].Path, Blocks: blocks})
	}
	return nil
}

// swarmsImageURL makes a URL of what a client may put into img: a URL, a data:
// URI or bare base64, which the vendor takes for a JPEG. The other formats are
// told by their first bytes, because model APIs refuse an image under a wrong
// type. "" if it is none of these: the vendor's framework opens paths too, which
// here would be ours.
func swarmsImageURL(s string) string {
	for _, scheme := range [...]string{"http://", "https://", "data:"} {
		if len(s) > len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
			return s
		}
	}
	if s != "" && s[0] == '/' && !strings.HasPrefix(s, "/9j/") { // a path, and no JPEG
		return ""
	}
	breaks, digits := false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '+', c == '/', c == '=':
			digits++
		case c == '\n', c == '\r', c == ' ', c == '\t':
			breaks = true
		default:
			return ""
		}
	}
	if digits < 8 {
		return ""
	}
	if breaks {
		s = strings.Join(strings.Fields(s), "")
	}
	return "data:" + swarmsImageType(s) + ";base64," + s
}

// swarmsImageType tells the type of an image by its first bytes.
func swarmsImageType(b64 string) string {
	var head [18]byte
	n, _ := base64.StdEncoding.Decode(head[:], viewBytes(b64[:min(len(b64)&^3, 24)]))
	h := string(head[:n])
	for _, m := range [...]struct {
		at          int
		magic, mime string
	}{
		{0, "\x89PNG\r\n", "image/png"}, {0, "GIF8", "image/gif"}, {8, "WEBP", "image/webp"}, {0, "BM", "image/bmp"},
		{0, "II*\x00", "image/tiff"}, {0, "MM\x00*", "image/tiff"},
		{4, "ftypavif", "image/avif"}, {4, "ftypheic", "image/heic"}, {4, "ftypheix", "image/heic"}, {4, "ftypmif1", "image/heif"},
	} {
		if len(h) >= m.at && strings.HasPrefix(h[m.at:], m.magic) {
			return m.mime
		}
	}
	return "image/jpeg"
}
