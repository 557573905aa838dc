// validatorUrl null: the badge would send the document's address to a server elsewhere.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#document", deepLinking: true, validatorUrl: null });
