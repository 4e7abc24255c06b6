module triforce

go 1.26
