package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/recipe"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// recipeParameters makes a flag of each parameter that some recipe has, so that another recipe needs no line of code here. Recipes may
// share the name of a parameter.
func recipeParameters() (kong.Plugins, error) {
	recipes, err := recipe.All()
	if err != nil {
		return nil, err
	}
	helps := make(map[string]string)
	var names []string
	for i := range recipes {
		for _, p := range recipes[i].Parameters {
			help := fmt.Sprintf("With --recipe %s: %s.", recipes[i].Name, p.Help)
			if _, shared := helps[p.Name]; shared {
				help = helps[p.Name] + " " + help
			} else {
				names = append(names, p.Name)
			}
			helps[p.Name] = help
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	fields := make([]reflect.StructField, len(names))
	for i, name := range names {
		fields[i] = reflect.StructField{
			Name: "Parameter" + strconv.Itoa(i), Type: reflect.TypeFor[text](),
			Tag: reflect.StructTag(fmt.Sprintf("name:%q placeholder:%q help:%q", name, "VALUE", helps[name])),
		}
	}
	return kong.Plugins{reflect.New(reflect.StructOf(fields)).Interface()}, nil
}

// parameters returns the parameters that were given, by name.
func (f *optionFlags) parameters() map[string]string {
	values := make(map[string]string)
	for _, plugin := range f.Parameters {
		v := reflect.ValueOf(plugin).Elem()
		for i := range v.NumField() {
			if given, ok := reflect.TypeAssert[text](v.Field(i)); ok && given.given {
				values[v.Type().Field(i).Tag.Get("name")] = given.value
			}
		}
	}
	return values
}

// recipeChange returns the step that lays a recipe over the options of a rule, nil where none is asked for. A rule that was made by a
// recipe keeps those of its parameters that are not given again.
func (f *optionFlags) recipeChange() (change, error) {
	given := f.parameters()
	if f.Recipe.given && f.Recipe.value == "" {
		return nil, usagef("--recipe: write the name of a recipe; rules recipes lists them. " +
			"To take away what one has set, empty that: --transform '', for example")
	}
	if !f.Recipe.given {
		if len(given) == 0 {
			return nil, nil
		}
		return func(d *draft) error {
			if d.document.Recipe == "" {
				return usagef("--%s is a parameter of a recipe: add --recipe NAME; rules recipes lists them", anyKey(given))
			}
			return d.setParameters(d.document.Recipe, given)
		}, nil
	}
	if _, err := recipe.ByName(f.Recipe.value); err != nil {
		return nil, usagef("--recipe: %w", err)
	}
	return func(d *draft) error { return d.applyRecipe(f.Recipe.value, given) }, nil
}

func anyKey(m map[string]string) (key string) {
	for k := range m {
		if key == "" || k < key {
			key = k
		}
	}
	return key
}

// setParameters changes parameters of the rule's recipe, and nothing else that the recipe, or somebody since, has set.
func (d *draft) setParameters(name string, given map[string]string) error {
	document, err := d.recipeWith(name, given)
	if err != nil {
		return err
	}
	d.document.Params = document.Params
	return nil
}

// recipeWith returns what a recipe makes of the parameters that the rule has and of those given.
func (d *draft) recipeWith(name string, given map[string]string) (document rule.Document, err error) {
	r, err := recipe.ByName(name)
	if err != nil {
		return document, usageError{err}
	}
	values := make(map[string]string)
	if d.document.Recipe == name {
		if values, err = parametersOf(r, d.document.Params); err != nil {
			return document, err
		}
	}
	maps.Copy(values, given)
	if document, err = r.Document(values); err != nil {
		return document, usageError{err}
	}
	return document, nil
}

// applyRecipe lays a recipe over the rule's options.
func (d *draft) applyRecipe(name string, given map[string]string) error {
	document, err := d.recipeWith(name, given)
	if err != nil {
		return err
	}
	for header := range document.Headers { // one of the rule's own, under whatever spelling, would be there twice
		for _, own := range [...]map[string]string{d.document.Headers, d.secrets.Headers} {
			maps.DeleteFunc(own, func(name, _ string) bool { return strings.EqualFold(name, header) })
		}
	}
	laid, err := encode(&document)
	if err != nil {
		return err
	}
	if s := document.Signing; s != nil && (d.document.Signing == nil || d.document.Signing.Scheme != s.Scheme) {
		d.secrets.Signing = nil
	}
	// Fields that the recipe does not set stay as they are; pointers are not shared with it.
	d.document.Params, d.document.Signing = nil, nil
	return json.Unmarshal([]byte(laid), &d.document)
}

// parametersOf returns the values that a rule's parameters were made of.
func parametersOf(r *recipe.Recipe, params json.RawMessage) (map[string]string, error) {
	values := make(map[string]string)
	if len(params) == 0 {
		return values, nil
	}
	var stored map[string]any
	if err := json.Unmarshal(params, &stored); err != nil {
		return nil, fmt.Errorf("read the parameters of the rule: %w", err)
	}
	for i := range r.Parameters {
		p := &r.Parameters[i]
		switch value := stored[p.Key()].(type) {
		case string:
			values[p.Name] = value
		case []any:
			words := make([]string, len(value))
			for i := range value {
				words[i] = fmt.Sprint(value[i])
			}
			values[p.Name] = strings.Join(words, ",")
		}
	}
	return values, nil
}

// fits refuses a recipe for a rule of another event.
func fits(name string, r *rule.Rule, catalogue *schema.Catalogue) error {
	if name == "" {
		return nil
	}
	made, err := recipe.ByName(name)
	if err != nil {
		return usageError{err}
	}
	if signal, ok := catalogue.ByConstant(made.Event); ok && signal.Type != r.EventType {
		return usagef("the recipe %s is for %s, and rule %d wants %s: add a rule of its own for the recipe",
			name, made.Event, r.ID, r.EventType)
	}
	return nil
}

type recipesCommand struct {
	JSON bool `help:"Print one JSON document." name:"json"`
}

// recipeView is a recipe as JSON.
type recipeView struct {
	Name       string             `json:"name"`
	Summary    string             `json:"summary"`
	Event      string             `json:"event"`
	Secret     string             `json:"secret"` // which secret a rule needs, "" for none
	Parameters []recipe.Parameter `json:"parameters"`
	Options    rule.Document      `json:"options"`
}

// Run lists the recipes.
func (c *recipesCommand) Run(s *session) error {
	recipes, err := recipe.All()
	if err != nil {
		return err
	}
	if c.JSON {
		views := make([]recipeView, len(recipes))
		for i := range recipes {
			r := &recipes[i]
			views[i] = recipeView{r.Name, r.Summary, r.Event, r.Secret, append([]recipe.Parameter{}, r.Parameters...), r.Options}
		}
		return s.printJSON(views)
	}
	var b strings.Builder
	for i := range recipes {
		r := &recipes[i]
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s, for %s\n    %s\n", r.Name, r.Event, r.Summary)
		if r.Secret != "" {
			fmt.Fprintf(&b, "    --secret: %s\n", r.Secret)
		}
		for _, p := range r.Parameters {
			fmt.Fprintf(&b, "    --%s: %s%s\n", p.Name, p.Help, remark(&p))
		}
	}
	_, err = s.Stdout.Write([]byte(b.String()))
	return err
}

// remark says what else a parameter's help leaves open.
func remark(p *recipe.Parameter) string {
	switch {
	case len(p.Choices) > 0:
		return " (" + strings.Join(p.Choices, ", ") + "; optional)"
	case p.Default != "":
		return " (" + p.Default + " by default)"
	case !p.Required:
		return " (optional)"
	}
	return ""
}
