// The page's JavaScript is checked with: npx eslint -c companion/page/eslint.config.js companion/page/page.js
const names = ["AudioBufferSourceNode", "AudioContext", "Blob", "DynamicsCompressorNode", "GainNode",
  "URL", "URLSearchParams", "addEventListener", "atob", "document", "getSelection", "history",
  "location", "navigator", "requestAnimationFrame", "setTimeout"];
module.exports = [{
  languageOptions: {
    ecmaVersion: 2022, sourceType: "script",
    globals: Object.fromEntries(names.map(name => [name, "readonly"]))},
  rules: {
    "no-undef": "error", "no-unused-vars": "error", "prefer-const": "error", "eqeqeq": "error",
    "no-var": "error", "no-shadow": "error", "no-implicit-globals": "error", "no-eval": "error",
    "no-unreachable": "error", "no-use-before-define": ["error", {functions: false, variables: false}]},
}];
