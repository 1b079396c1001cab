import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: [".*/**", "build/**"] },
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "no-shadow": "error",
      "no-var": "error",
      "prefer-const": "error",
      "require-await": "error",
    },
  },
  { files: ["deploy/pages/**"], languageOptions: { globals: globals.browser } },
  {
    // No module: it follows the bundle of Swagger UI in its page.
    files: ["deploy/pages/docs/**"],
    languageOptions: { sourceType: "script", globals: { SwaggerUIBundle: "readonly" } },
  },
  { files: ["tests/conformance/connect_web/**"], languageOptions: { globals: globals.browser } },
  {
    files: ["tests/conformance/{connect_node,grpc_js}/**"],
    languageOptions: { globals: globals.node },
  },
];
