"""Parts of the ablation: plan, training, tests, analysis, page."""
