package policy

// KeptRepository is the policy of one repository that is in force although a later
// revision is active, because that repository's folder in it was rejected.
type KeptRepository struct {
	Repository string
	Revision   Revision // of the rules
	Files      []File   // of the repository's folder
	Shared     []File   // the documents and the library of that revision; one slice for all repositories that share them
}
