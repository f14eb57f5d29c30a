package resource

import (
	"encoding/json"
	"errors"
)

// listed is what a refresh reads of an object in a list. Kargo's API gives step and phase the
// same place in every version of v1alpha1.
type listed struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Steps []struct {
			Uses any `json:"uses"`
		} `json:"steps"`
	} `json:"spec"`
	Status struct {
		Phase       any   `json:"phase"`
		CurrentStep int64 `json:"currentStep"` // absent: 0
	} `json:"status"`
}

// waits reports whether the object runs, and its current step is this one.
func (o *listed) waits(step string) bool {
	n := o.Status.CurrentStep
	return o.Status.Phase == "Running" && n >= 0 && n < int64(len(o.Spec.Steps)) && o.Spec.Steps[n].Uses == step
}

// readList reads a page of a list: the names of the objects that wait in a step, of all
// objects if it is empty, and the token of the following page.
func readList(body []byte, step string) (names []string, following string, err error) {
	var page struct {
		Metadata struct {
			Continue string `json:"continue"`
		} `json:"metadata"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, "", errors.New("the list is not the JSON of a list of objects")
	}
	for _, raw := range page.Items {
		name, ok, err := readObject(raw, step)
		if err != nil {
			return nil, "", err
		}
		if ok {
			names = append(names, name)
		}
	}
	return names, page.Metadata.Continue, nil
}

// readObject returns the name of an object of a list, and whether the object waits in the
// step. Without a step only the name is read, whatever else the object has.
func readObject(raw json.RawMessage, step string) (name string, ok bool, err error) {
	var o listed
	if step == "" {
		err = json.Unmarshal(raw, &struct {
			Metadata any `json:"metadata"`
		}{&o.Metadata})
	} else {
		err = json.Unmarshal(raw, &o)
	}
	switch {
	case err != nil:
		return "", false, errors.New("the list has an object in another form")
	case step != "" && !o.waits(step):
		return "", false, nil
	case !isName(o.Metadata.Name):
		return "", false, errors.New("the list has an object without a valid name")
	}
	return o.Metadata.Name, true, nil
}
