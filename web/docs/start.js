// Shows the description of the API in the page. A token that is typed in is kept by the page alone.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null, // else it would ask another host
});
