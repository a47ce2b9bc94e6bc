"""What `inn doctor` looks at, one module an area; app.core.doctor puts them together."""
