package translate

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// checkedInputs are what gjson is given, each with who has checked it: gjson takes
// anything without a word, and what it does with a document that is no JSON is not
// defined.
var checkedInputs = map[string]string{
	`viewString(r.Body)`:                    "the gate: CheckBody",
	`viewString(r.Body), at`:                "the gate: CheckBody",
	`viewString(in.Body)`:                   "the gate: CheckBody",
	`viewString(d.r.Body)`:                  "the gate: CheckBody",
	`viewString(w.r.Body), "tool_choice"`:   "the gate: CheckBody",
	`s.body`:                                "the gate: CheckBody",
	`s.body, path`:                          "the gate; the paths are constants",
	`s.body, key`:                           "the gate; the keys are constants",
	`s.body, parent`:                        "the gate; the paths are constants",
	`viewString(body)`:                      "the gate (SplitBatch), else Answer.Body",
	`t.Parameters`:                          "a value of a checked request",
	`s.Raw`:                                 "a value of a checked request",
	`s.Raw, "#"`:                            "a value of a checked request",
	`s.Raw, "0"`:                            "a value of a checked request",
	"s.Raw, `#(==\"audio\")`":               "a value of a checked request",
	`tools`:                                 "a value of a checked request, or an array that we wrote",
	`asked`:                                 "an option of the configuration, checked when it is loaded, or a value of a checked request",
	`viewString(raw)`:                       "jsonx.Dec.Raw, or a data block's JSON",
	`viewString(raw), "type"`:               "jsonx.Dec.Raw, or a data block's JSON",
	`viewString(e.part)`:                    "jsonx.Dec.Raw",
	`e.part, "text"`:                        "jsonx.Dec.Raw",
	`viewString(e.item)`:                    "jsonx.Dec.Raw",
	`viewString(e.response)`:                "jsonx.Dec.Raw",
	`e.err`:                                 "jsonx.Dec.Raw",
	`viewString(fr.value)`:                  "jsonx.Dec.Raw",
	`viewString(d.c.annotations)`:           "jsonx.Dec.Raw",
	`item, "id"`:                            "a value of a checked answer",
	`item, "type"`:                          "a value of a checked answer",
	`flat`:                                  "an annotation event, which decoders make of checked answers",
	`row`:                                   "a table row event, which decoders make of checked answers",
	`viewString(component)`:                 "a component that we wrote",
	`viewString(dst[start:]), key`:          "what we wrote",
	`viewString(f.Data), "error"`:           "swarmsDecoder.parse, which reads the frame to its end",
	`viewString(f.Data)`:                    "swarmsDecoder.parse, which reads the frame to its end",
	`viewString(data)`:                      "swarmsDecoder.parse, which reads the frame to its end",
	`viewString(data), "error.status_code"`: "swarmsDecoder.parse, or Answer.Body",
	`viewString(data), "outputs"`:           "swarmsDecoder.parse, or Answer.Body",
	`viewString(data), "error"`:             "the era's decoder, which has read the chunk",
	`viewString(doc)`:                       "completionDecoder.parse, which reads the chunk to its end",
	`viewString(cyclsValid(d.fields[cyRows].b))`: "cyclsDecoder.read, which reads the component to its end",
	`viewString(r.Body), "input"`:                "the gate: CheckBody",
	`raw`:                                        "an item of a checked request, or of a kept one",
	`r.Items[respText(item.Get("id"))]`:          "what was kept of checked requests and answers, checked when it is read",
	`"[" + turn + "]"`:                           "what was kept of checked requests and answers, checked when it is read",
	`viewString(r.Body), "messages"`:             "the gate: CheckBody",
	`f.Data, "type"`:                             "cyclsDecoder.read, which reads the component to its end",
	`"["+history+"]"`:                            "what was kept, checked when it is read",
	`"[" + output + "]"`:                         "what was kept, checked when it is read",
	`item`:                                       "what was kept, checked when it is read",
	`data, "response"`:                           "respDecoder.parse, which reads the frame to its end",
	`body`:                                       "Answer.Body",
	`trimmed`:                                    "jsonx.Valid, just before",
	`s`:                                          "jsonx.Valid, just before",
}

// TestEverythingThatGjsonReadsWasChecked finds calls with an input of which nobody
// has said who checks it, and those of gjson's functions that recurse.
func TestEverythingThatGjsonReadsWasChecked(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`gjson\.(?:Parse|ParseBytes|Get|GetBytes)\(`)
	other := regexp.MustCompile(`gjson\.(Valid|ValidBytes|GetMany|GetManyBytes|ForEachLine)\b|\)\.(Value|Map|Array)\(\)`)
	used := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(src), "\n") {
			if m := other.FindString(line); m != "" {
				t.Errorf("%s:%d: %s recurses, or takes many times the memory", name, i+1, m)
			}
			for _, m := range call.FindAllStringIndex(line, -1) {
				arg, depth := "", 1
				for j, c := range line[m[1]:] {
					if c == '(' {
						depth++
					} else if c == ')' {
						if depth--; depth == 0 {
							arg = line[m[1] : m[1]+j]
							break
						}
					}
				}
				if checkedInputs[arg] == "" {
					t.Errorf("%s:%d: nobody says who has checked %s", name, i+1, arg)
				}
				used[arg] = true
			}
		}
	}
	for arg := range checkedInputs {
		if !used[arg] {
			t.Errorf("%s is read nowhere", arg)
		}
	}
}
