package schema

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/avro"
)

func load(t *testing.T) *Catalogue {
	t.Helper()
	c, err := LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCatalogueHoldsTheWholeRelease(t *testing.T) {
	t.Parallel()
	c := load(t)
	if got := c.Version(); !slices.Equal(got, []int64{11, 2, 0}) || c.Release() != "11.2.0" {
		t.Errorf("version %v, release %q", got, c.Release())
	}
	var plugin, onBus int
	for _, s := range c.Signals() {
		if s.Plugin {
			plugin++
		}
		if s.OnBus {
			onBus++
		}
	}
	if got := len(c.Signals()); got != 75 || plugin != 66 || onBus != 73 {
		t.Errorf("%d signals, %d of the plugin, %d on the bus; want 75, 66, 73", got, plugin, onBus)
	}
}

func TestLookUp(t *testing.T) {
	t.Parallel()
	c := load(t)
	s, ok := c.ByConstant("course_Enrollment_CREATED")
	if !ok {
		t.Fatal("a constant is not found without regard to case")
	}
	byType, ok := c.ByType(s.Type)
	if !ok || byType.Constant != "COURSE_ENROLLMENT_CREATED" || byType.Kwarg != "enrollment" ||
		byType.Class != "openedx_events.learning.data.CourseEnrollmentData" {
		t.Errorf("ByType(%q) = %+v, %v", s.Type, byType, ok)
	}
	want := []string{"enrollment.course.start", "enrollment.course.end", "enrollment.creation_date"}
	if !slices.Equal(s.Datetimes, want) {
		t.Errorf("datetimes %v, want %v", s.Datetimes, want)
	}
	if _, ok := c.ByType("org.openedx.learning.no.such.v1"); ok {
		t.Error("an unknown type is found")
	}
	if _, ok := c.ByConstant(""); ok {
		t.Error("the empty constant is found")
	}
}

// Every event that the bus can carry has a schema of its one argument, and there is no file that no
// event has.
func TestAvro(t *testing.T) {
	t.Parallel()
	c := load(t)
	files, err := fs.Glob(avroFiles, "avro/*.avsc")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, s := range c.Signals() {
		text, ok := c.Avro(s.Type)
		if ok != s.OnBus {
			t.Errorf("%s: has a schema: %v, on the bus: %v", s.Type, ok, s.OnBus)
		}
		if !ok {
			continue
		}
		seen++
		parsed, err := avro.Parse(text, avro.WithLaxNames(nil))
		if err != nil {
			t.Errorf("%s: %v", s.Type, err)
			continue
		}
		root := parsed.Root()
		if root.Namespace != s.Type || len(root.Fields) != 1 || root.Fields[0].Name != s.Kwarg ||
			root.Fields[0].Type.Name != s.Class[strings.LastIndexByte(s.Class, '.')+1:] {
			t.Errorf("%s: the schema does not fit the catalogue: %s of %d fields", s.Type, root.Namespace, len(root.Fields))
		}
	}
	if seen != len(files) {
		t.Errorf("%d schemas belong to events, %d files exist", seen, len(files))
	}
	if _, ok := c.Avro("../catalogue"); ok {
		t.Error("a type that is no event has a schema")
	}
}

func TestCatalogueEditedByHand(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no JSON":            `{`,
		"version":            `{"openedx_events": "11.2.x", "signals": []}`,
		"type twice":         `{"openedx_events": "1", "signals": [{"type":"a","constant":"A"},{"type":"a","constant":"B"}]}`,
		"constant twice":     `{"openedx_events": "1", "signals": [{"type":"a","constant":"A"},{"type":"b","constant":"a"}]}`,
		"no type":            `{"openedx_events": "1", "signals": [{"constant":"A"}]}`,
		"no constant at all": `{"openedx_events": "1", "signals": [{"type":"a"}]}`,
	} {
		if _, err := parseCatalogue([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
