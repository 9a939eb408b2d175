import eslint from "typescript-eslint";

export default eslint.config(
  { ignores: ["dist", "node_modules"] },
  ...eslint.configs.strict,
  {
    rules: {
      "@typescript-eslint/no-non-null-assertion": "off", // array indices bounded by a loop
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-console": ["error", { allow: ["log"] }],
      "prefer-const": "error",
    },
  },
);
