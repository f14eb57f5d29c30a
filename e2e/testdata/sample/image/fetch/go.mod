module sample.example/fetch

go 1.21
