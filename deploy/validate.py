"""Checks Kubernetes files against the schemas of their kinds, unknown fields included.

    python deploy/validate.py FILE-OR-FOLDER-OF-CRDS... -- FILE...

Kinds of Kubernetes itself come with the package kubernetes-validate; others from
the CustomResourceDefinitions of the extensions that define them. A kind without a
schema is an error.
"""

import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml


def strict(schema):
    """Refuses fields that the schema does not name, as the API server warns of them."""
    if isinstance(schema, dict):
        for part in schema.values():
            strict(part)
        if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        for part in schema:
            strict(part)
    return schema


def definitions(paths):
    """Schemas by apiVersion and kind."""
    found = {}
    for path in map(pathlib.Path, paths):
        for file in path.rglob("*.yaml") if path.is_dir() else [path]:
            for crd in yaml.safe_load_all(file.read_text()):
                if not crd or crd.get("kind") != "CustomResourceDefinition":
                    continue
                for version in crd["spec"]["versions"]:
                    schema = strict(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = {"type": "object"}
                    key = f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]
                    found[key] = schema
    return found


def main(args):
    at = args.index("--")
    custom = definitions(args[:at])
    failed = False
    for file in args[at + 1 :]:
        for resource in yaml.safe_load_all(pathlib.Path(file).read_text()):
            key = resource["apiVersion"], resource["kind"]
            try:
                if key in custom:
                    jsonschema.validate(resource, custom[key])
                else:
                    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
                print(f"{file}: {key[1]} is valid")
            except (jsonschema.ValidationError, kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as e:
                failed = True
                print(f"{file}: {key[1]}: {getattr(e, 'json_path', '')} {getattr(e, 'message', None) or e}")
    return 1 if failed or at + 1 == len(args) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
